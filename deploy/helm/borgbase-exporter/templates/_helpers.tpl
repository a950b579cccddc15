{{- define "borgbase-exporter.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "borgbase-exporter.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "borgbase-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "borgbase-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "borgbase-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "borgbase-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "borgbase-exporter.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (ternary (include "borgbase-exporter.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* The Secret of the tokens; none with the simulated account. */}}
{{- define "borgbase-exporter.tokenSecret" -}}
{{- $given := compact (list (ternary "demo" "" .Values.demo) (ternary "tokens.existingSecret" "" (not (empty .Values.tokens.existingSecret))) (ternary "tokens.inline" "" (not (empty .Values.tokens.inline)))) }}
{{- if not $given }}
{{- fail "\n\nNo token: set tokens.existingSecret to the name of a Secret with a token per account:\n  kubectl create secret generic borgbase-tokens --from-file=ACCOUNT=FILE\n  helm … --set tokens.existingSecret=borgbase-tokens\nTo look around without one: --set demo=true\n" }}
{{- else if gt (len $given) 1 }}
{{- fail (printf "\n\n%s: set only one of them\n" (join " and " $given)) }}
{{- else if and .Values.tokens.items (not .Values.tokens.existingSecret) }}
{{- fail "\n\ntokens.items: of use with tokens.existingSecret only\n" }}
{{- end }}
{{- .Values.tokens.existingSecret | default (ternary "" (printf "%s-tokens" (include "borgbase-exporter.fullname" .)) .Values.demo) }}
{{- end }}

{{- /* The web configuration that the chart keeps in a Secret; empty with one of the user's or none. */}}
{{- define "borgbase-exporter.webConfig" -}}
{{- if and .Values.web.config .Values.web.existingSecret }}
{{- fail "\n\nweb.config and web.existingSecret: set only one of them\n" }}
{{- end }}
{{- if not .Values.web.existingSecret }}
{{- $config := deepCopy .Values.web.config }}
{{- if .Values.web.tlsSecret }}
{{- $files := dict "cert_file" "/etc/borgbase/tls/tls.crt" "key_file" "/etc/borgbase/tls/tls.key" }}
{{- $config = mergeOverwrite (dict "tls_server_config" $files) $config }}
{{- end }}
{{- with $config }}{{ toYaml . }}{{ end }}
{{- end }}
{{- end }}

{{- /* The Secret of the web configuration; empty without one. */}}
{{- define "borgbase-exporter.webSecret" -}}
{{- if include "borgbase-exporter.webConfig" . }}
{{- printf "%s-web" (include "borgbase-exporter.fullname" .) }}
{{- else }}
{{- .Values.web.existingSecret }}
{{- end }}
{{- end }}

{{- define "borgbase-exporter.scheme" -}}
{{- $tls := or .Values.web.tlsSecret .Values.web.config.tls_server_config }}
{{- .Values.web.scheme | default (ternary "https" "http" (not (empty $tls))) }}
{{- end }}

{{- /* A probe of the values; takes the context, the probe and the page. */}}
{{- define "borgbase-exporter.probe" -}}
{{- $tls := .context.Values.web.config.tls_server_config | default dict }}
{{- if not (or .probe.exec .probe.grpc .probe.httpGet .probe.tcpSocket) }}
{{- if eq (toString $tls.client_auth_type) "RequireAndVerifyClientCert" }}
{{- /* The kubelet has no certificate to show. */}}
tcpSocket:
  port: metrics
{{- else }}
httpGet:
  path: {{ .page }}
  port: metrics
  scheme: {{ include "borgbase-exporter.scheme" .context | upper }}
{{- end }}
{{- end }}
{{ toYaml .probe }}
{{- end }}
