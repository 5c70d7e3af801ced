{{/*
The rule groups of files/rules/*.yaml, changed as values.rules says. The files are what Prometheus reads, so that its own tool
tests what ships; here words such as MODEL become this release's, and single rules are changed by name.
This file is the same in both charts. Given (dict "root" $ "words" {WORD: what stands for it}).
*/}}
{{- define "signalyard.rules" -}}
{{- $root := .root -}}
{{- $words := .words -}}
{{- $known := dict -}}
{{- $groups := list -}}
{{- range $path, $_ := $root.Files.Glob "files/rules/*.yaml" -}}
{{- range $group := (($root.Files.Get $path) | fromYaml).groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- $name := $rule.alert | default $rule.record -}}
{{- $_ := set $known $name true -}}
{{- $change := index $root.Values.rules.change $name | default dict -}}
{{- if not (and (hasKey $change "enabled") (not $change.enabled)) -}}
{{- if hasKey $change "for" -}}{{- $_ := set $rule "for" (get $change "for") -}}{{- end -}}
{{- if hasKey $change "keepFiringFor" -}}{{- $_ := set $rule "keep_firing_for" $change.keepFiringFor -}}{{- end -}}
{{- if hasKey $change "labels" -}}{{- $_ := set $rule "labels" (mergeOverwrite (deepCopy ($rule.labels | default dict)) $change.labels) -}}{{- end -}}
{{- range $from, $to := $change.replace -}}
{{- $word := printf "(^|[^A-Za-z0-9_.])%s($|[^A-Za-z0-9_.])" (regexQuoteMeta $from) -}}
{{- if not (regexMatch $word $rule.expr) -}}
{{- fail (printf "rules.change.%s.replace: %q is no word of its expression: %s" $name $from $rule.expr) -}}
{{- end -}}
{{- $_ := set $rule "expr" (regexReplaceAll $word $rule.expr (printf "${1}%s${2}" $to)) -}}
{{- end -}}
{{- $text := toYaml $rule -}}
{{- range $word, $value := $words -}}
{{- $text = regexReplaceAllLiteral (printf "\\b%s\\b" $word) $text $value -}}
{{- end -}}
{{- $rules = append $rules (fromYaml $text) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $_ := set $group "rules" $rules -}}
{{- with $root.Values.rules.interval -}}{{- $_ := set $group "interval" . -}}{{- end -}}
{{- $groups = append $groups $group -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $root.Values.rules.change -}}
{{- if not (hasKey $known $name) -}}
{{- fail (printf "rules.change.%s: there is no such rule; there are %s" $name (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
