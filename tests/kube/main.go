// The control plane of a cluster without nodes, for tests: etcd and kube-apiserver in this process,
// kube-scheduler and kube-controller-manager in two children.
//
//	control-plane -dir DIR -ports ETCD,ETCD_PEERS,API,SCHEDULER,CONTROLLERS
//
// DIR gets the state, the certificates and DIR/kubeconfig.  All listen on loopback.  One line,
// "ready", is printed when the API server is.  SIGTERM ends it all at once: the state is thrown away.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: test
  cluster: {server: "https://127.0.0.1:%d", certificate-authority: %q}
users:
- name: admin
  user: {token: %q}
contexts:
- name: test
  context: {cluster: test, user: admin}
current-context: test
`

// The components may configure logging once in a process only, so two of them are children.
var components = map[string]func() *cobra.Command{
	"scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"controller-manager": controllers.NewControllerManagerCommand,
}

func main() {
	if len(os.Args) > 1 && components[os.Args[1]] != nil {
		command := components[os.Args[1]]()
		command.SetArgs(os.Args[2:])
		must(command.ExecuteContext(context.Background()))
		return
	}
	dir := flag.String("dir", "", "folder for the state")
	list := flag.String("ports", "", "five free ports, with commas between them")
	flag.Parse()
	ports := numbers(*list)
	if *dir == "" || len(ports) != 5 {
		log.Fatalf("found -dir %q and %d ports, wanted a folder and 5 ports", *dir, len(ports))
	}
	must(os.MkdirAll(*dir, 0o700))
	in := func(name string) string { return filepath.Join(*dir, name) }

	// The API server would wait for the watches of the controllers, for half a minute.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()

	etcd := startEtcd(in("etcd"), ports[0], ports[1])
	token := rand.Text()
	must(os.WriteFile(in("tokens.csv"), []byte(token+",admin,admin,system:masters\n"), 0o600))
	writeKey(in("service-account.key"))
	certificate := in("certificates/apiserver.crt")
	config := fmt.Sprintf(kubeconfig, ports[2], certificate, token)
	must(os.WriteFile(in("kubeconfig"), []byte(config), 0o600))

	go func() {
		waitUntilReady(ports[2], token)
		child("scheduler", ports[3], in("scheduler"), in("kubeconfig"))
		child("controller-manager", ports[4], in("controller-manager"), in("kubeconfig"),
			"--service-account-private-key-file="+in("service-account.key"), "--root-ca-file="+certificate)
		fmt.Println("ready")
	}()
	command := apiserver.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + etcd,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", ports[2]),
		"--cert-dir=" + in("certificates"),
		"--token-auth-file=" + in("tokens.csv"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + in("service-account.key"),
		"--service-account-signing-key-file=" + in("service-account.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none",
		// A cluster may have it so; that a pod is privileged is Pod Security's to refuse.
		"--allow-privileged=true",
	})
	must(command.ExecuteContext(context.Background()))
}

// child starts this program again as the component of that name; it does not outlive this process.
func child(name string, port int, dir, kubeconfig string, args ...string) {
	command := exec.Command("/proc/self/exe", append([]string{
		name, "--kubeconfig=" + kubeconfig, "--leader-elect=false",
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--cert-dir=" + dir,
	}, args...)...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	go func() {
		runtime.LockOSThread() // the signal is sent when the thread ends that started the child
		log.Fatalf("%s has ended: %v", name, command.Run())
	}()
}

func startEtcd(dir string, clientPort, peerPort int) string {
	local := func(port int) []url.URL {
		return []url.URL{{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}}
	}
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = dir, "error", true
	config.ListenClientUrls, config.AdvertiseClientUrls = local(clientPort), local(clientPort)
	config.ListenPeerUrls, config.AdvertisePeerUrls = local(peerPort), local(peerPort)
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	must(err)
	<-etcd.Server.ReadyNotify()
	return local(clientPort)[0].String()
}

func waitUntilReady(port int, token string) {
	// It has just made its certificate, and nothing secret is asked.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for {
		request, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/readyz", port), nil)
		must(err)
		request.Header.Set("Authorization", "Bearer "+token)
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func numbers(list string) []int {
	var found []int
	for _, text := range strings.Split(list, ",") {
		number, err := strconv.Atoi(text)
		must(err)
		found = append(found, number)
	}
	return found
}

func writeKey(path string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.MarshalECPrivateKey(key)
	must(err)
	must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
