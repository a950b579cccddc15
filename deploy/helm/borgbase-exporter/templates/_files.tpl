{{- /* A file of the chart, with the addresses of Grafana and the runbooks put in; takes the context and the path.
       The file is text, not a template: what stands in braces is Prometheus' and Grafana's. */}}
{{- define "borgbase-exporter.file" -}}
{{- $runbooks := "https://github.com/borgbase-exporter/borgbase-exporter/blob/main/docs/runbooks" }}
{{- .context.Files.Get .path
      | replace "http://localhost:3000" (trimSuffix "/" .context.Values.grafanaUrl)
      | replace $runbooks (trimSuffix "/" .context.Values.runbookBaseUrl) }}
{{- end }}

{{- define "borgbase-exporter.noFiles" -}}
{{- fail "\n\nThe chart of a checkout has no rules and dashboards before `make chart` has put them into it\n" }}
{{- end }}
