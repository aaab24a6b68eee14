{{- define "authz.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* A release called authz, or myauthz, has just that name. */}}
{{- define "authz.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains (include "authz.name" .) .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "authz.name" .) | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "authz.selectorLabels" -}}
app.kubernetes.io/name: {{ include "authz.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "authz.labels" -}}
{{ include "authz.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* By these the network policies and monitors find a pod, whoever's chart makes it. */}}
{{- define "authz.podLabels" -}}
authz: {{ include "authz.fullname" . }}
{{- end }}

{{- define "authz.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end }}

{{- define "authz.configMap" -}}
{{ default (printf "%s-config" (include "authz.fullname" .)) .Values.config.configMap }}
{{- end }}

{{/* What a change of which is a rollout.  A pod that refuses the file is never ready, and the ones of before serve on. */}}
{{- define "authz.podAnnotations" -}}
{{- if .Values.config.files }}
checksum/config: {{ toJson .Values.config.files | sha256sum }}
{{- end }}
{{- if eq .Values.variant "sidecar" }}
checksum/envoy: {{ sha256sum .Values.sidecar.envoy.config }}
{{- end }}
{{- end }}

{{/* What a schema cannot say. */}}
{{- define "authz.check" -}}
{{- $config := .Values.config -}}
{{- if and $config.files $config.configMap -}}
{{- fail "config.files and config.configMap are both set: give one of them; the files of config.secret are merged with either" -}}
{{- end -}}
{{- if not (or $config.files $config.configMap (and $config.secret.name (not $config.secret.optional))) -}}
{{- fail "config: authz has nothing to read: give --set-file 'config.files.kong\\.yaml=kong.yaml', config.configMap, or config.secret with optional: false" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.egress) -}}
{{- fail "networkPolicy.egress is empty, so authz could not reach its identity provider and would never be ready: give rules for it, or networkPolicy.enabled=false" -}}
{{- end -}}
{{- if eq .Values.variant "sidecar" -}}
{{- if not .Values.sidecar.envoy.config -}}
{{- fail "sidecar.envoy.config is empty: give --set-file sidecar.envoy.config=envoy.yaml, which `authz envoy -c kong.yaml --authz unix:/run/authz/authz.sock --listen 0.0.0.0:8000` prints" -}}
{{- end -}}
{{- else if .Values.sidecar.containers -}}
{{- fail "sidecar.containers is set, but variant is shared, which runs authz alone: give variant=sidecar, or no containers" -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%v) is greater than autoscaling.maxReplicas (%v)" .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) -}}
{{- end -}}
{{- range $value, $kind := dict "podMonitor" "PodMonitor" "serviceMonitor" "ServiceMonitor" "prometheusRule" "PrometheusRule" -}}
{{- if and (index $.Values.monitoring $value).enabled (not ($.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) -}}
{{- fail (printf "monitoring.%s.enabled: the cluster does not know monitoring.coreos.com/v1/%s: install prometheus-operator's custom resources first; for helm template, add --api-versions monitoring.coreos.com/v1/%s" $value $kind $kind) -}}
{{- end -}}
{{- end -}}
{{- end }}
