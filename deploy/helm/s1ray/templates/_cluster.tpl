{{/* A RayCluster's spec, which RayCluster, RayJob and RayService share. */}}
{{- define "s1ray.cluster" -}}
rayVersion: 2.60.0
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: 300
  resources:
    requests: {cpu: 500m, memory: 1Gi}
    limits: {cpu: 500m, memory: 1Gi}
  securityContext: {{- include "s1ray.restricted" . | nindent 4 }}
# Every port of Ray asks for the token.
authOptions:
  mode: token
  secretName: {{ .Values.tokenSecret }}
{{- if and .Values.redis.address (ne .Values.kind "job") }}
gcsFaultToleranceOptions:
  redisAddress: {{ .Values.redis.address }}
  redisPassword:
    valueFrom:
      secretKeyRef: {name: {{ .Values.redis.secret }}, key: password}
{{- end }}
headGroupSpec:
  # No tasks on the head: what kills a task must not kill the cluster.
  rayStartParams: {num-cpus: "0", object-spilling-directory: /mnt/local/spill}
  template: {{- include "s1ray.pod" (dict "root" . "group" .Values.head "container" "ray-head") | nindent 4 }}
workerGroupSpecs:
{{- range .Values.workers }}
  - groupName: {{ .name }}
    replicas: {{ .min }}
    minReplicas: {{ .min }}
    maxReplicas: {{ .max }}
    labels: {s1ray/role: {{ .name }}}
    rayStartParams: {object-spilling-directory: /mnt/local/spill}
    template: {{- include "s1ray.pod" (dict "root" $ "group" . "container" "ray-worker") | nindent 6 }}
{{- end }}
{{- end }}

{{/* A pod of the cluster: the one image, no root, its own scratch space, the shared runs. */}}
{{- define "s1ray.pod" -}}
{{- $values := .root.Values }}
metadata:
  labels: {{- include "s1ray.labels" .root | nindent 4 }}
spec:
  {{- with $values.serviceAccount }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- if eq .container "ray-worker" }}
  automountServiceAccountToken: {{ ne $values.serviceAccount "" }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    # Not the whole claim at every start.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .group.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .group.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .container }}
      image: {{ $values.image }}
      securityContext: {{- include "s1ray.restricted" .root | nindent 8 }}
      env:
        - {name: HF_HOME, value: /mnt/local/huggingface}
        {{- with $values.huggingfaceSecret }}
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef: {name: {{ . }}, key: token}
        {{- end }}
        {{- range $name, $value := .group.env }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
      resources:
        requests: {{- include "s1ray.resources" .group | nindent 10 }}
        limits: {{- include "s1ray.resources" .group | nindent 10 }}
      {{- if eq .container "ray-head" }}
      ports:
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        {{- if eq $values.kind "service" }}
        - {name: serve, containerPort: 8000}
        {{- end }}
      {{- end }}
      volumeMounts:
        - {name: local, mountPath: /mnt/local}
        {{- if $values.storage.claim }}
        - {name: runs, mountPath: /mnt/runs}
        {{- end }}
        {{- if and $values.job.file (eq .container "ray-head") (eq $values.kind "job") }}
        - {name: config, mountPath: /etc/s1ray, readOnly: true}
        {{- end }}
  volumes:
    # Models, downloaded once a pod, and objects that spill.
    - name: local
      emptyDir: {sizeLimit: {{ .group.local | default "100Gi" }}}
    {{- with $values.storage.claim }}
    - name: runs
      persistentVolumeClaim: {claimName: {{ . }}}
    {{- end }}
    {{- if and $values.job.file (eq .container "ray-head") (eq $values.kind "job") }}
    - name: config
      configMap: {name: {{ .root.Release.Name }}-config}
    {{- end }}
{{- end }}

{{- define "s1ray.resources" -}}
cpu: {{ .cpu | quote }}
memory: {{ .memory }}
{{- with .gpus }}
nvidia.com/gpu: {{ . | quote }}
{{- end }}
{{- with .resources }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "s1ray.restricted" -}}
allowPrivilegeEscalation: false
runAsNonRoot: true
runAsUser: 1000
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "s1ray.labels" -}}
app.kubernetes.io/name: s1ray
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
