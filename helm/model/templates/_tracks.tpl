{{/*
The tracks as a JSON list, each with `pods` and its own keys over them, merged as helm merges values, and besides: track
(stable, canary, shadow, standby), component (the same, or standby-VERSION), name (of its Deployment or InferenceService),
service (of its Service), size (its pods at their most), shared (whether its InferenceService is a track's before it, because both
serve the same version).
*/}}
{{- define "signalyard-model.tracks" -}}
{{- $root := . -}}
{{- $tracks := list -}}
{{- range $name := list "stable" "canary" "shadow" -}}
{{- with index $root.Values.tracks $name -}}
{{- $tracks = append $tracks (include "signalyard-model.track" (dict "root" $root "track" $name "component" $name "own" .) | fromJson) -}}
{{- end -}}
{{- end -}}
{{- $stable := first $tracks -}}
{{- range $root.Values.standbys -}}
{{- $component := printf "standby-%s" (include "signalyard-model.dns" .version) -}}
{{- /* A way back that is smaller than what it stands in for is none. */}}
{{- $own := mergeOverwrite (dict "replicas" $stable.size "autoscaling" (dict "enabled" false)) (deepCopy .) -}}
{{- $tracks = append $tracks (include "signalyard-model.track" (dict "root" $root "track" "standby" "component" $component "own" $own) | fromJson) -}}
{{- end -}}
{{- $names := dict -}}
{{- range $tracks -}}
{{- $_ := set . "shared" (hasKey $names .name) -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- $tracks | toJson -}}
{{- end -}}

{{- define "signalyard-model.track" -}}
{{- $model := .root.Values.model -}}
{{- $track := mergeOverwrite (deepCopy .root.Values.pods) (deepCopy .own) (dict "track" .track "component" .component) -}}
{{- if eq $track.workload "InferenceService" -}}
{{- $name := printf "%s-%s" $model (include "signalyard-model.dns" $track.version) -}}
{{- $_ := set $track "name" $name -}}
{{- $_ := set $track "service" (printf "%s-server" $name) -}}
{{- else -}}
{{- $name := printf "%s-%s" $model .component -}}
{{- $_ := set $track "name" $name -}}
{{- $_ := set $track "service" $name -}}
{{- end -}}
{{- $_ := set $track "size" (ternary $track.autoscaling.maxReplicas $track.replicas $track.autoscaling.enabled) -}}
{{- $track | toJson -}}
{{- end -}}

{{/* What no schema can say. Each message names the field and what would be right. */}}
{{- define "signalyard-model.check" -}}
{{- $values := .Values -}}
{{- $old := list -}}
{{- range $values.standbys -}}
{{- if ne .version $values.tracks.stable.version -}}{{- $old = append $old .version -}}{{- end -}}
{{- end -}}
{{- if and (lt (len $old) (int $values.keep.versions)) (not $values.keep.fewer) -}}
{{- fail (printf "standbys: %d version(s) other than stable's, and keep.versions asks for %d: list the versions to go back to, or say in keep.fewer why there are fewer, such as: first install" (len $old) (int $values.keep.versions)) -}}
{{- end -}}
{{- if and $values.route.create (not $values.route.spec.instruments) -}}
{{- fail "route.spec.instruments: is required, such as [\"rb*.SHFE\"]; or set route.create to false" -}}
{{- end -}}
{{- if and $values.route.create (not $values.route.spec.mapping) -}}
{{- fail "route.spec.mapping: is required, such as {long: {enter: 0.6}}; or set route.create to false" -}}
{{- end -}}
{{- $digests := dict -}}
{{- $versions := dict -}}
{{- $standbys := dict -}}
{{- range $track := include "signalyard-model.tracks" . | fromJsonArray -}}
{{- $place := eq $track.track "standby" | ternary (printf "standbys (version %s)" $track.version) (printf "tracks.%s" $track.track) -}}
{{- $name := include "signalyard-model.dns" $track.version -}}
{{- if ne (get $versions $name | default $track.version) $track.version -}}
{{- fail (printf "%s.version: %q and %q give the same names; call one of them otherwise" $place $track.version (get $versions $name)) -}}
{{- end -}}
{{- $_ := set $versions $name $track.version -}}
{{- /* A version may be on two tracks for a while, as in a promotion; but it is one bundle. */}}
{{- if ne (get $digests $track.version | default $track.digest) $track.digest -}}
{{- fail (printf "%s.digest: version %q has another digest on another track; a version is one bundle" $place $track.version) -}}
{{- end -}}
{{- $_ := set $digests $track.version $track.digest -}}
{{- if eq $track.track "standby" -}}
{{- if hasKey $standbys $track.version -}}
{{- fail (printf "standbys: version %q is there twice" $track.version) -}}
{{- end -}}
{{- $_ := set $standbys $track.version true -}}
{{- end -}}
{{- if lt (int $track.terminationGracePeriodSeconds) (add (int $track.preStopSeconds) 5 | int) -}}
{{- fail (printf "%s: terminationGracePeriodSeconds is %d; it must be at least preStopSeconds and 5 more, %d, or requests are cut" $place (int $track.terminationGracePeriodSeconds) (add (int $track.preStopSeconds) 5)) -}}
{{- end -}}
{{- if and $track.autoscaling.enabled (lt (int $track.autoscaling.maxReplicas) (int $track.autoscaling.minReplicas)) -}}
{{- fail (printf "%s.autoscaling.maxReplicas: is %d, and minReplicas %d" $place (int $track.autoscaling.maxReplicas) (int $track.autoscaling.minReplicas)) -}}
{{- end -}}
{{- if and (eq $track.workload "InferenceService") (or $track.pull.env $track.pull.envFrom $track.pull.volumeMounts) -}}
{{- fail (printf "%s.pull: an InferenceService's bundle is pulled by the ClusterStorageContainer; env, envFrom and volumeMounts belong there (manifests/kserve)" $place) -}}
{{- end -}}
{{- if gt (len $track.name) 52 -}}
{{- fail (printf "%s: the name %q has more than 52 characters; take a shorter model or version" $place $track.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
