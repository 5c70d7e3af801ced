{{/* A version as a part of a name: dots, underscores and capitals are not allowed there. */}}
{{- define "signalyard-model.dns" -}}
{{- . | toString | lower | replace "." "-" | replace "_" "-" -}}
{{- end -}}

{{/* Labels of every object. Given (dict "root" $ "component" "stable"); component may be left out. */}}
{{- define "signalyard-model.labels" -}}
{{ include "signalyard-model.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: signalyard
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
signalyard.io/model: {{ .root.Values.model }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What selectors go by: name, instance, component. A Deployment's cannot be changed later, so nothing else belongs here. */}}
{{- define "signalyard-model.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "signalyard-model.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- .Values.model -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/*
What finds a track's pods. A Deployment's go by their component; an InferenceService's by itself, because it may change its track.
Given (dict "root" $ "track" track).
*/}}
{{- define "signalyard-model.pods" -}}
{{- if eq .track.workload "InferenceService" -}}
{{ include "signalyard-model.selector" (dict "root" .root) }}
signalyard.io/server: {{ .track.name }}
{{- else -}}
{{ include "signalyard-model.selector" (dict "root" .root "component" .track.component) }}
{{- end -}}
{{- end -}}

{{/* Labels of a track's objects; those of an InferenceService know of no track, for the same reason. */}}
{{- define "signalyard-model.trackLabels" -}}
{{- if eq .track.workload "InferenceService" -}}
{{ include "signalyard-model.labels" (dict "root" .root) }}
{{- else -}}
{{ include "signalyard-model.labels" (dict "root" .root "component" .track.component) }}
{{- end -}}
{{- end -}}
