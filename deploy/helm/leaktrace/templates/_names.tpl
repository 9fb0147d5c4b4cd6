{{- define "leaktrace.labels" -}}
{{ include "leaktrace.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "leaktrace.selector" -}}
app.kubernetes.io/name: leaktrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "leaktrace.name" -}}
{{ printf "%s-leaktrace" .Release.Name | replace "leaktrace-leaktrace" "leaktrace" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "leaktrace.secret" -}}
{{ default (printf "%s-token" (include "leaktrace.name" .)) .Values.tokenSecret }}
{{- end }}
