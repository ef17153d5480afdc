{{/* The Pod, for Deployment and DaemonSet. */}}
{{- define "gatehouse.pod" -}}
{{- $c := .Values.controller -}}
metadata:
  labels:
    {{- include "gatehouse.labels" . | nindent 4 }}
    {{- with $c.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $c.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "gatehouse.serviceAccount" . }}
  automountServiceAccountToken: true
  # No variables for each Service of the namespace: flags are read from the environment too.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "gatehouse.podSecurity" . | nindent 4 }}
  {{- if $c.hostNetwork }}
  hostNetwork: true
  {{- end }}
  dnsPolicy: {{ $c.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "ClusterFirst" $c.hostNetwork) }}
  terminationGracePeriodSeconds: {{ int $c.terminationGracePeriodSeconds }}
  {{- with $c.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $c.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "gatehouse.spread" . }}
  topologySpreadConstraints:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "gatehouse.container" . | nindent 4 }}
{{- end -}}

{{- define "gatehouse.container" -}}
{{- $c := .Values.controller -}}
{{- $ports := include "gatehouse.ports" . | fromJson -}}
- name: gatehouse
  image: {{ include "gatehouse.image" . }}
  imagePullPolicy: {{ $c.image.pullPolicy }}
  args:
    {{- include "gatehouse.arguments" . | nindent 4 }}
  env:
    - name: POD_NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    {{- with $c.extraEnvs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- range $name := list "http" "https" }}
    - name: {{ $name }}
      containerPort: {{ index $ports $name }}
      protocol: TCP
      {{- if or $c.hostPort.enabled $c.hostNetwork }}
      hostPort: {{ index $c.hostPort.ports $name }}
      {{- end }}
    {{- end }}
    - name: metrics
      containerPort: {{ $c.metrics.port }}
      protocol: TCP
      {{- if $c.hostNetwork }}
      hostPort: {{ $c.metrics.port }}
      {{- end }}
  {{- range $probe, $path := dict "startupProbe" "/healthz" "readinessProbe" "/readyz" "livenessProbe" "/healthz" }}
  {{ $probe }}:
    httpGet:
      path: {{ $path }}
      port: metrics
      scheme: HTTP
      {{- with $c.healthCheckHost }}
      host: {{ . | quote }}
      {{- end }}
    {{- toYaml (index $c $probe) | nindent 4 }}
  {{- end }}
  {{- with $c.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "gatehouse.containerSecurity" . | nindent 4 }}
{{- end -}}

{{/*
Low ports: in a network of its own the Pod may lower the limit. In the node's it
may not, and a capability given to a user other than root is lost when the
program starts (Kubernetes sets no ambient capabilities). So it is root there,
with that one capability and no other.
*/}}
{{- define "gatehouse.podSecurity" -}}
{{- $c := .Values.controller -}}
{{- $low := include "gatehouse.privileged" . -}}
{{- $user := ternary 0 65532 (and $c.hostNetwork (ne $low "")) -}}
{{- $default := dict
  "runAsNonRoot" (ne $user 0)
  "runAsUser" $user
  "runAsGroup" $user
  "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if and $low (not $c.hostNetwork) -}}
{{- $_ := set $default "sysctls" (list (dict "name" "net.ipv4.ip_unprivileged_port_start" "value" "0")) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $default $c.podSecurityContext) -}}
{{- end -}}

{{- define "gatehouse.containerSecurity" -}}
{{- $c := .Values.controller -}}
{{- $capabilities := dict "drop" (list "ALL") -}}
{{- if and $c.hostNetwork (include "gatehouse.privileged" .) -}}
{{- $_ := set $capabilities "add" (list "NET_BIND_SERVICE") -}}
{{- end -}}
{{- $default := dict
  "allowPrivilegeEscalation" false
  "readOnlyRootFilesystem" true
  "capabilities" $capabilities -}}
{{- toYaml (mergeOverwrite $default $c.containerSecurityContext) -}}
{{- end -}}

{{- define "gatehouse.spread" -}}
{{- $c := .Values.controller -}}
{{- $all := list -}}
{{- range $c.topologySpreadConstraints -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "gatehouse.selector" $ | fromYaml)) -}}
{{- $all = append $all (merge (dict) . $own) -}}
{{- end -}}
{{- if and (not $all) (eq $c.kind "Deployment") -}}
{{- $all = list (dict
  "maxSkew" 1
  "topologyKey" "kubernetes.io/hostname"
  "whenUnsatisfiable" "ScheduleAnyway"
  "labelSelector" (dict "matchLabels" (include "gatehouse.selector" . | fromYaml))
  "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/*
A port of the node can be had by one Pod only: there the old one goes first.
Elsewhere the new one comes first.
*/}}
{{- define "gatehouse.strategy" -}}
{{- $c := .Values.controller -}}
{{- if $c.updateStrategy -}}
{{- toYaml $c.updateStrategy -}}
{{- else if or $c.hostPort.enabled $c.hostNetwork -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 0
  maxUnavailable: 1
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ ternary "25%" 1 (eq $c.kind "Deployment") }}
  maxUnavailable: 0
{{- end -}}
{{- end -}}
