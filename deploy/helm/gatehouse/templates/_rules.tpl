{{/* What is asked of the API server in every namespace that is watched. */}}
{{- define "gatehouse.rules.watched" -}}
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# Certificates and passwords; of others than those of TLS the metadata is watched, and what an Ingress names is read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{ include "gatehouse.rules.events" . }}
{{- end -}}

{{/* Verdicts about objects. */}}
{{- define "gatehouse.rules.events" -}}
- apiGroups: [""]
  resources: [events]
  verbs: [create, get, patch]
{{- end -}}

{{- define "gatehouse.rules.cluster" -}}
- apiGroups: [networking.k8s.io]
  resources: [ingressclasses]
  verbs: [list, watch]
{{- end -}}

{{/* What replicas agree on, in their own namespace. Names cannot be given for create. */}}
{{- define "gatehouse.rules.own" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [gatehouse-leader]
  verbs: [get, update]
# The keys of TLS session tickets.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [gatehouse-tls-tickets]
  verbs: [get, update]
{{- end -}}

{{/* A Role and its binding: a list of the context, the namespace, the name and the rules. */}}
{{- define "gatehouse.role" -}}
{{- $ := index . 0 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ index . 2 }}
  namespace: {{ index . 1 }}
  labels:
    {{- include "gatehouse.labels" $ | nindent 4 }}
rules:
  {{- index . 3 | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ index . 2 }}
  namespace: {{ index . 1 }}
  labels:
    {{- include "gatehouse.labels" $ | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ index . 2 }}
subjects:
  - kind: ServiceAccount
    name: {{ include "gatehouse.serviceAccount" $ }}
    namespace: {{ $.Release.Namespace }}
{{- end -}}
