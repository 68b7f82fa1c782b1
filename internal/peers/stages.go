package peers

// stagesYAML tells the simulator what happens to nodes and pods: a node is ready from the start; a pod runs as soon as it
// has a node, turns ready unless it is held, and is gone as soon as it is deleted.
const stagesYAML = `
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: node-ready
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
      - {key: '.status.conditions.[] | select( .type == "Ready" ) | .status', operator: NotIn, values: ["True"]}
  next:
    statusTemplate: |
      {{ $now := Now }}
      phase: Running
      addresses:
        - {type: InternalIP, address: {{ NodeIP | Quote }}}
        - {type: Hostname, address: {{ .metadata.name | Quote }}}
      allocatable: {cpu: "64", memory: 256Gi, pods: "500"}
      capacity: {cpu: "64", memory: 256Gi, pods: "500"}
      nodeInfo:
        architecture: amd64
        operatingSystem: linux
        bootID: ""
        containerRuntimeVersion: simulated
        kernelVersion: simulated
        kubeProxyVersion: simulated
        kubeletVersion: simulated
        machineID: ""
        osImage: simulated
        systemUUID: ""
      conditions:
        {{ range NodeConditions }}
        - type: {{ .type | Quote }}
          status: {{ .status | Quote }}
          reason: {{ .reason | Quote }}
          message: {{ .message | Quote }}
          lastHeartbeatTime: {{ $now | Quote }}
          lastTransitionTime: {{ $now | Quote }}
        {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-running
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: '.metadata.deletionTimestamp', operator: DoesNotExist}
      - {key: '.status.phase', operator: In, values: [Pending]}
  next:
    statusTemplate: |
      {{ $now := Now }}
      {{ $held := false }}
      {{ with .metadata.annotations }}
        {{ if index . "` + HoldReadyAnnotation + `" }}{{ $held = true }}{{ end }}
      {{ end }}
      phase: Running
      startTime: {{ $now | Quote }}
      hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
      podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}
      conditions:
        - {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
        - {type: ContainersReady, status: {{ not $held | printf "%t" | title | Quote }}, lastTransitionTime: {{ $now | Quote }}}
        - {type: Ready, status: {{ not $held | printf "%t" | title | Quote }}, lastTransitionTime: {{ $now | Quote }}}
      containerStatuses:
        {{ range .spec.containers }}
        - name: {{ .name | Quote }}
          image: {{ .image | Quote }}
          imageID: ""
          ready: {{ not $held }}
          started: true
          restartCount: 0
          state: {running: {startedAt: {{ $now | Quote }}}}
        {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-gone
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: '.metadata.deletionTimestamp', operator: Exists}
  next:
    delete: true
    finalizers: {empty: true}
`
