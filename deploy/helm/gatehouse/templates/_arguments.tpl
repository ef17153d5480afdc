{{/* The ports to listen on as {"http": n, "https": n}: with the node's network those of the node. */}}
{{- define "gatehouse.ports" -}}
{{- with .Values.controller -}}
{{- ternary .hostPort.ports .containerPort .hostNetwork | toJson -}}
{{- end -}}
{{- end -}}

{{/* "yes" if a port below 1024 is bound. */}}
{{- define "gatehouse.privileged" -}}
{{- $ports := include "gatehouse.ports" . | fromJson -}}
{{- if or (lt (int $ports.http) 1024) (lt (int $ports.https) 1024) }}yes{{ end -}}
{{- end -}}

{{/* Seconds for draining: the delay, and what terminationGracePeriodSeconds leaves after it and 5 more to end. */}}
{{- define "gatehouse.drain" -}}
{{- $c := .Values.controller -}}
{{- $delay := get $c.extraArgs "drain-delay" | default "10s" | trimSuffix "s" | int -}}
{{- $grace := int $c.terminationGracePeriodSeconds -}}
{{- $timeout := sub (sub $grace $delay) 5 -}}
{{- if hasKey $c.extraArgs "drain-timeout" -}}
{{- $timeout = get $c.extraArgs "drain-timeout" | trimSuffix "s" | int -}}
{{- end -}}
{{- if or (lt (int $timeout) 1) (gt (add $delay $timeout 5) $grace) -}}
{{- fail (printf "controller.terminationGracePeriodSeconds is %d, too short for a drain-delay of %d s, a drain-timeout of at least 1 s, and 5 s to end: the kubelet would kill open connections. Give more, or less to controller.extraArgs.drain-delay and drain-timeout" $grace $delay) -}}
{{- end -}}
drain-delay: {{ $delay }}s
drain-timeout: {{ $timeout }}s
{{- end -}}

{{/* All arguments. What extraArgs says wins, but for what the chart must know. */}}
{{- define "gatehouse.arguments" -}}
{{- $c := .Values.controller -}}
{{- $owned := dict
  "manifests" "nothing: the chart serves what the API server has"
  "kubeconfig" "nothing: the chart uses its ServiceAccount"
  "http-addr" "controller.containerPort.http, with hostNetwork controller.hostPort.ports.http"
  "https-addr" "controller.containerPort.https, with hostNetwork controller.hostPort.ports.https"
  "health-addr" "controller.metrics.port and controller.healthCheckHost"
  "watch-namespace" "controller.watchNamespaces"
  "ingress-class" "controller.ingressClass"
  "controller-name" "controller.ingressClassResource.controllerValue"
  "publish-service" "controller.publishService.pathOverride"
  "lease-namespace" "nothing: it is the release's namespace" -}}
{{- range $flag, $instead := $owned -}}
{{- if hasKey $c.extraArgs $flag -}}
{{- fail (printf "controller.extraArgs.%s: the chart sets this flag itself; set %s" $flag $instead) -}}
{{- end -}}
{{- end -}}
{{- $ports := include "gatehouse.ports" . | fromJson -}}
{{- $args := dict
  "http-addr" (printf ":%d" (int $ports.http))
  "https-addr" (printf ":%d" (int $ports.https))
  "health-addr" (printf "%s:%d" (include "gatehouse.bracketed" $c.healthCheckHost) (int $c.metrics.port))
  "controller-name" $c.ingressClassResource.controllerValue
  "ingress-class" (default $c.ingressClassResource.name $c.ingressClass)
  "lease-namespace" "$(POD_NAMESPACE)" -}}
{{- with (include "gatehouse.watched" . | fromJson).names -}}
{{- $_ := set $args "watch-namespace" (join "," .) -}}
{{- end -}}
{{- with include "gatehouse.published" . -}}
{{- $own := printf "%s/" $.Release.Namespace -}}
{{- $_ := set $args "publish-service" (ternary (printf "$(POD_NAMESPACE)/%s" (trimPrefix $own .)) . (hasPrefix $own .)) -}}
{{- end -}}
{{- $args = merge (include "gatehouse.drain" . | fromYaml) $args $c.extraArgs -}}
- serve
{{- range $flag, $value := $args }}
- {{ printf "--%s=%s" $flag (ternary $value ($value | toJson) (kindIs "string" $value)) | quote }}
{{- end }}
{{- end -}}

{{- define "gatehouse.bracketed" -}}
{{- if contains ":" . }}[{{ . }}]{{ else }}{{ . }}{{ end -}}
{{- end -}}
