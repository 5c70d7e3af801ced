{{/* Annotations of a track's pods: what they serve, and why. Given (dict "root" $ "track" track). */}}
{{- define "signalyard-model.annotations" -}}
signalyard.io/version: {{ .track.version | quote }}
signalyard.io/digest: {{ .track.digest }}
kubernetes.io/change-cause: {{ include "signalyard-model.cause" .track | quote }}
{{- with .track.annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "signalyard-model.cause" -}}
{{- .changeCause | default (printf "version %s, %s" .version (trunc 19 .digest)) -}}
{{- end -}}

{{/* Labels of a track's pods. No version among them, and no chart's: what changes there would roll pods for nothing. */}}
{{- define "signalyard-model.podLabels" -}}
{{ include "signalyard-model.selector" (dict "root" .root "component" .track.component) }}
signalyard.io/model: {{ .root.Values.model }}
signalyard.io/track: {{ .track.track }}
{{- with .track.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Probes of the model, not of the server: that one is ready with no model at all. Given (dict "root" $ "track" track). */}}
{{- define "signalyard-model.probes" -}}
{{- $ready := printf "/v2/models/%s/versions/%s/ready" .root.Values.model .track.version -}}
startupProbe:
  httpGet: {path: {{ $ready }}, port: 8080}
  periodSeconds: {{ .track.probes.startup.periodSeconds }}
  failureThreshold: {{ .track.probes.startup.failureThreshold }}
  timeoutSeconds: 2
readinessProbe:
  httpGet: {path: {{ $ready }}, port: 8080}
  periodSeconds: {{ .track.probes.readiness.periodSeconds }}
  failureThreshold: {{ .track.probes.readiness.failureThreshold }}
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /v2/health/live, port: 8080}
  periodSeconds: {{ .track.probes.liveness.periodSeconds }}
  failureThreshold: {{ .track.probes.liveness.failureThreshold }}
  timeoutSeconds: 5
{{- end -}}

{{/* Where and how pods run, the same for Deployments and InferenceServices. Given (dict "root" $ "track" track). */}}
{{- define "signalyard-model.placement" -}}
serviceAccountName: {{ include "signalyard-model.serviceAccount" .root }}
# Nothing in these pods talks to the API server.
automountServiceAccountToken: false
# Service environment variables of a namespace's other services would end up among the server's settings.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .track.terminationGracePeriodSeconds }}
securityContext:
  {{- include "signalyard.podSecurity" . | nindent 2 }}
{{- with .track.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .track.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .track.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .track.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .track.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .track.spread }}
topologySpreadConstraints:
  {{- range $constraint := .track.spread }}
  - {{ toYaml $constraint | indent 4 | trim }}
    labelSelector:
      matchLabels:
        {{- include "signalyard-model.pods" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}
