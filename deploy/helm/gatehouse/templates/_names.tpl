{{- define "gatehouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of all objects: the release's, with the chart's where it is not in it. */}}
{{- define "gatehouse.fullname" -}}
{{- $name := include "gatehouse.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gatehouse.selector" -}}
app.kubernetes.io/name: {{ include "gatehouse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "gatehouse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "gatehouse.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gatehouse.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gatehouse.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gatehouse.image" -}}
{{- with .Values.controller.image -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .image }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The namespaces to watch as {"names": [...]}, sorted, each once; none: all. */}}
{{- define "gatehouse.watched" -}}
{{- $names := .Values.controller.watchNamespaces -}}
{{- if .Values.controller.scope.enabled -}}
{{- $names = append $names (default .Release.Namespace .Values.controller.scope.namespace) -}}
{{- end -}}
{{- dict "names" ($names | uniq | sortAlpha) | toJson -}}
{{- end -}}

{{/* namespace/name of the Service whose addresses are published; empty: of none. */}}
{{- define "gatehouse.published" -}}
{{- with .Values.controller -}}
{{- if and .publishService.enabled .publishService.pathOverride -}}
{{- .publishService.pathOverride -}}
{{- else if and .publishService.enabled .service.enabled -}}
{{- printf "%s/%s" $.Release.Namespace (include "gatehouse.fullname" $) -}}
{{- end -}}
{{- end -}}
{{- end -}}
