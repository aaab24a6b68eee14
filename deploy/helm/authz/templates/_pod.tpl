{{/* The container of authz; nothing but arguments, port's name, volumes and default resources differ between the variants. */}}
{{- define "authz.container" -}}
{{- $sidecar := eq .Values.variant "sidecar" -}}
{{- $admin := ternary "authz-admin" "admin" $sidecar -}}
name: authz
image: {{ include "authz.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if $sidecar }}
restartPolicy: Always
{{- end }}
command: [authz, serve]
args:
- --config=/etc/authz
{{- if .Values.requirePlugin }}
- --require-plugin
{{- end }}
{{- if $sidecar }}
- --listen=unix:/run/authz/authz.sock
- --admin=0.0.0.0:9192
{{- else }}
# Calls carry callers' secrets, so beyond loopback there is no plaintext.
- --listen=0.0.0.0:9191
- --tls-cert=/run/tls/tls.crt
- --tls-key=/run/tls/tls.key
- --admin=0.0.0.0:9192
# Envoys hear with a delay that this pod goes, and of new pods only when they connect anew.
- --drain-delay={{ .Values.shared.drainSeconds }}
- --grace={{ .Values.shared.graceSeconds }}
- --max-connection-age={{ int .Values.shared.maxConnectionAgeSeconds }}
{{- end }}
- --log-format=json
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
env:
{{- toYaml . | nindent 0 }}
{{- end }}
ports:
{{- if not $sidecar }}
- {name: grpc, containerPort: 9191}
{{- end }}
- {name: {{ $admin }}, containerPort: 9192}
# Configuration loaded and listening.  An identity provider that is down must not keep the pod from starting.
startupProbe:
  httpGet: {path: /startupz, port: {{ $admin }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
# The process alone.
livenessProbe:
  httpGet: {path: /livez, port: {{ $admin }}}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
# The keys of a provider have been seen once, and no drain has begun.
readinessProbe:
  httpGet: {path: /readyz, port: {{ $admin }}}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
resources:
{{- if .Values.resources }}
{{- toYaml .Values.resources | nindent 2 }}
{{- else if $sidecar }}
  requests: {cpu: 50m, memory: 96Mi}
  limits: {memory: 512Mi}
{{- else }}
  requests: {cpu: 250m, memory: 128Mi}
  limits: {memory: 512Mi}
{{- end }}
securityContext:
{{- if $sidecar }}
{{- include "authz.unprivileged" . | nindent 2 }}
{{- else }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
volumeMounts:
- {name: authz-config, mountPath: /etc/authz, readOnly: true}
{{- if $sidecar }}
- {name: authz-socket, mountPath: /run/authz}
{{- else }}
- {name: authz-tls, mountPath: /run/tls, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "authz.unprivileged" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "authz.volumes" -}}
- name: authz-config
  projected:
    defaultMode: 0440
    sources:
    {{- if or .Values.config.files .Values.config.configMap }}
    - configMap: {name: {{ include "authz.configMap" . }}}
    {{- end }}
    {{- with .Values.config.secret }}
    {{- if .name }}
    - secret: {name: {{ .name }}{{ if .optional }}, optional: true{{ end }}}
    {{- end }}
    {{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/*
What a pod of the variant sidecar has beside its containers.  An init container with `restartPolicy: Always` is a
sidecar: the next container is started once its startup probe has passed, and it is ended, in reverse order, after
the containers of the application.  So Envoy never runs without authz, and the application never without Envoy.
*/}}
{{- define "authz.sidecar.pod" -}}
terminationGracePeriodSeconds: 60
securityContext:
  # The group of the socket's directory, which all containers of the pod are in.  The application does not mount it,
  # so it cannot ask authz.
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
initContainers:
-
{{- include "authz.container" . | nindent 2 }}
- name: envoy
  image: {{ .Values.sidecar.envoy.image | quote }}
  restartPolicy: Always
  command: [/usr/local/bin/envoy]
  args: [--config-path, /etc/envoy/envoy.yaml, --disable-hot-restart, --concurrency, {{ .Values.sidecar.envoy.concurrency | quote }}]
  ports:
  - {name: envoy, containerPort: 8000}
  # Envoy opens its listener once its clusters are there.  Its own admin pages can change and end it, so they stay on
  # loopback, where no probe reaches them.
  startupProbe:
    tcpSocket: {port: envoy}
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 60
  livenessProbe:
    tcpSocket: {port: envoy}
    periodSeconds: 10
    timeoutSeconds: 2
    failureThreshold: 3
  readinessProbe:
    tcpSocket: {port: envoy}
    periodSeconds: 5
    timeoutSeconds: 2
    failureThreshold: 2
  resources:
  {{- toYaml .Values.sidecar.envoy.resources | nindent 4 }}
  securityContext:
  {{- include "authz.unprivileged" . | nindent 4 }}
  volumeMounts:
  - {name: authz-envoy, mountPath: /etc/envoy, readOnly: true}
  - {name: authz-socket, mountPath: /run/authz}
volumes:
{{ include "authz.volumes" . }}
- name: authz-envoy
  configMap: {name: {{ include "authz.fullname" . }}-envoy, defaultMode: 0440}
- name: authz-socket
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- with .Values.sidecar.volumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
