// The grpc-go peer of `make bench`: the same bytes for every Check, none of them read.
//
// `noop PORT FILE` listens on loopback and answers with the contents of FILE.  What a
// Check costs here is what grpc-go costs, with its defaults.
package main

import (
	"context"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// raw leaves messages as the bytes they are, in both directions.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = raw{}

// check is the least that a handler can do: take the message, return the answer.
func check(answer any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	return answer, nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: noop PORT FILE")
	}
	answer, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.auth.v3.Authorization",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: check}},
	}, answer)
	log.Fatal(server.Serve(listener))
}
