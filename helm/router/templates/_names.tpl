{{- define "signalyard-router.name" -}}
{{- .Values.nameOverride | default .Release.Name -}}
{{- end -}}

{{/* What selectors go by. */}}
{{- define "signalyard-router.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: router
{{- end -}}

{{/* Labels of every object. */}}
{{- define "signalyard-router.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: signalyard
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "signalyard-router.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "signalyard-router.name" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* What no schema can say. Each message names the field and what would be right. */}}
{{- define "signalyard-router.check" -}}
{{- if and (eq .Values.routes.from "configMap") (not .Values.routes.documents) -}}
{{- fail "routes.documents: is empty, and routes.from is configMap: give the spec of a SignalRoute by its name, or take routes.from: kubernetes" -}}
{{- end -}}
{{- if and (eq .Values.routes.from "kubernetes") .Values.routes.documents -}}
{{- fail "routes.documents: is read only with routes.from: configMap; with kubernetes routes are SignalRoutes" -}}
{{- end -}}
{{- if and (eq .Values.routes.from "configMap") .Values.routes.namespaces -}}
{{- fail "routes.namespaces: is read only with routes.from: kubernetes" -}}
{{- end -}}
{{- if and .Values.admin.expose (not .Values.admin.tokensSecret) -}}
{{- fail "admin.tokensSecret: is required where admin.expose is true: whoever pulls a lever must be somebody" -}}
{{- end -}}
{{- if and .Values.admin.expose (not .Values.admin.tlsSecret) -}}
{{- fail "admin.tlsSecret: is required where admin.expose is true: tokens must not travel in the clear" -}}
{{- end -}}
{{- if and .Values.redis.urlSecret.name (not .Values.redis.in) (not .Values.redis.out) -}}
{{- fail "redis.in: says, as redis.out does, nothing of what goes over the Redis of redis.urlSecret; name stream or pubsub in one of them" -}}
{{- end -}}
{{- if and (or .Values.redis.in .Values.redis.out) (not .Values.redis.urlSecret.name) -}}
{{- fail "redis.urlSecret.name: is required where redis.in or redis.out is not empty: it is the secret with the server's URL" -}}
{{- end -}}
{{- if and (not .Values.admin.expose) (or .Values.admin.tokensSecret .Values.admin.tlsSecret) -}}
{{- fail "admin.expose: is false, so admin.tokensSecret and admin.tlsSecret have no use; set it to true or empty them" -}}
{{- end -}}
{{- if and (not .Values.grpc.expose) .Values.grpc.tlsSecret -}}
{{- fail "grpc.expose: is false, so grpc.tlsSecret has no use; set it to true or empty the other" -}}
{{- end -}}
{{- $zeromq := .Values.zeromq -}}
{{- $speaks := or $zeromq.requests.expose $zeromq.signals.expose $zeromq.snapshots -}}
{{- if and $speaks (not $zeromq.keySecret) (not $zeromq.plain) -}}
{{- fail "zeromq.keySecret: is required where ZeroMQ leaves the pod; or say zeromq.plain: true where the network keeps others out" -}}
{{- end -}}
{{- if and $zeromq.keySecret $zeromq.plain -}}
{{- fail "zeromq.plain: is true, so zeromq.keySecret has no use; empty one of them" -}}
{{- end -}}
{{- if and (not $speaks) (or $zeromq.keySecret $zeromq.plain) -}}
{{- fail "zeromq.requests.expose: is false, as zeromq.signals.expose is, and there are no zeromq.snapshots, so zeromq.keySecret and zeromq.plain have no use" -}}
{{- end -}}
{{- range $zeromq.snapshots -}}
{{- if and $zeromq.keySecret (not (contains "#" .)) -}}
{{- fail (printf "zeromq.snapshots: %s needs its publisher's public key behind it: %s#PUBLIC-KEY" . .) -}}
{{- end -}}
{{- end -}}
{{- $shared := .Values.journal.redis.urlSecret.name -}}
{{- if and (gt (int .Values.replicas) 1) (not $shared) -}}
{{- fail (printf "replicas: is %d, and each router would signal by a journal of its own: name the Secret of a Redis in journal.redis.urlSecret.name, or take 1" (int .Values.replicas)) -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim: is one volume, and each of several replicas needs its own; leave it empty" -}}
{{- end -}}
{{- if and $shared (ne .Values.journal.durability "os") -}}
{{- fail "journal.durability: is Redis's to give where the journal is shared (appendfsync); leave it at os" -}}
{{- end -}}
{{- $least := add (int .Values.preStopSeconds) (int .Values.drainSeconds) 5 -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $least) -}}
{{- fail (printf "terminationGracePeriodSeconds: is %d; it must be at least preStopSeconds, drainSeconds and 5 more, %d, or the journal is cut off" (int .Values.terminationGracePeriodSeconds) $least) -}}
{{- end -}}
{{- end -}}
