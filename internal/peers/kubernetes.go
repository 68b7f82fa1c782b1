package peers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// HoldReadyAnnotation on a pod (with any value) makes the simulated node run its containers but never report them ready,
// as a consumer does that cannot work with the value it was given. Put it on a workload's pod template to see a rollout
// get stuck.
const HoldReadyAnnotation = "peers.keywright/hold-ready"

// nodes are the simulated nodes that Kubernetes makes.
var nodes = [...]string{"node-a", "node-b"}

// Kubernetes starts a control plane of its own (etcd, API server, controller manager, scheduler) with two simulated nodes,
// and returns the path of a kubeconfig of mode 0600 whose only context, "keywright-peers", is a cluster administrator.
//
// Workloads roll out as on a real cluster and their pods turn Running and Ready, but no container has a process: there are
// no images, logs, probes or exec. See HoldReadyAnnotation for pods that are not to turn ready.
//
// It takes about ten seconds to start: call it once per top-level test and give each subtest its own namespace.
func Kubernetes(t testing.TB) string {
	t.Helper()
	const build = "tools/peers.sh kube"
	etcd := need(t, "apt-get install etcd-server", "etcd")
	root := moduleRoot(t)
	kubernetes := filepath.Join(cache(t), "kubernetes", required(t, filepath.Join(root, "tools", "kube", "go.mod"), "k8s.io/kubernetes"))
	apiserver := need(t, build, filepath.Join(kubernetes, "kube-apiserver"))
	controllers := need(t, build, filepath.Join(kubernetes, "kube-controller-manager"))
	scheduler := need(t, build, filepath.Join(kubernetes, "kube-scheduler"))
	kwok := need(t, build, filepath.Join(cache(t), "kwok", required(t, filepath.Join(root, "tools", "kwok", "go.mod"), "sigs.k8s.io/kwok"), "kwok"))

	dir := folder(t, "kube")
	authority, err := newAuthority()
	if err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	address := loopback(mustPort(t))
	if err := authority.write(dir); err != nil {
		t.Fatalf("write certificates: %v", err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := authority.writeKubeconfig(kubeconfig, "https://"+address); err != nil {
		t.Fatalf("write kubeconfig: %v", err)
	}
	stages := filepath.Join(dir, "stages.yaml")
	if err := os.WriteFile(stages, []byte(stagesYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LANG=C.UTF-8", "TZ=UTC"}

	etcdURL := "http://" + loopback(mustPort(t))
	etcdPeerURL := "http://" + loopback(mustPort(t))
	store := start(t, dir, "etcd", syscall.SIGKILL, environment, etcd,
		"--name=keywright", "--data-dir="+filepath.Join(dir, "etcd"),
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+etcdPeerURL, "--initial-advertise-peer-urls="+etcdPeerURL, "--initial-cluster=keywright="+etcdPeerURL)
	store.ready(t, time.Minute, func(ctx context.Context) error { return get(ctx, http.DefaultClient, etcdURL+"/health") })

	_, securePort, _ := strings.Cut(address, ":")
	api := start(t, dir, "kube-apiserver", syscall.SIGKILL, environment, apiserver,
		"--etcd-servers="+etcdURL,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+securePort, "--endpoint-reconciler-type=none",
		"--tls-cert-file="+filepath.Join(dir, "server.crt"), "--tls-private-key-file="+filepath.Join(dir, "server.key"),
		"--client-ca-file="+filepath.Join(dir, "ca.crt"),
		"--service-account-issuer=https://"+address, "--service-account-signing-key-file="+filepath.Join(dir, "server.key"),
		"--service-account-key-file="+filepath.Join(dir, "server.crt"),
		"--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC", "--anonymous-auth=false",
		// Debian's etcd cannot serve the streamed lists that clients ask for first. Refused outright they list at once; refused in
		// the middle of a stream they ask again later and later, and a watch was half a minute behind.
		"--feature-gates=WatchList=false")
	client, err := authority.client()
	if err != nil {
		t.Fatalf("make client: %v", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	k := &kube{client: client, base: "https://" + address}
	api.ready(t, 2*time.Minute, func(ctx context.Context) error { return get(ctx, client, k.base+"/readyz") })

	// A simulated node has nobody who brings a pod back that the manager once called unready, as it does with the pods of a node
	// that it has not heard of for a minute. So no node is ever given up.
	manager := start(t, dir, "kube-controller-manager", syscall.SIGKILL, environment, controllers,
		"--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000",
		"--node-monitor-grace-period=24h", "--node-startup-grace-period=24h",
		"--root-ca-file="+filepath.Join(dir, "ca.crt"), "--service-account-private-key-file="+filepath.Join(dir, "server.key"))
	start(t, dir, "kube-scheduler", syscall.SIGKILL, environment, scheduler, "--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0")
	simulator := start(t, dir, "kwok", syscall.SIGKILL, environment, kwok,
		"--kubeconfig="+kubeconfig, "--config="+stages, "--manage-all-nodes=true", "--server-address=", "--node-port=0",
		"--node-ip=127.0.0.1")
	// Pods are only admitted into a namespace that has its default service account.
	manager.ready(t, time.Minute, func(ctx context.Context) error {
		return k.call(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", nil, nil)
	})
	for _, name := range nodes {
		simulator.ready(t, time.Minute, func(ctx context.Context) error { return k.node(ctx, name) })
	}
	return kubeconfig
}

// kube makes the few calls that starting the control plane takes.
type kube struct {
	client *http.Client
	base   string
}

// node makes a node unless it is there, and returns nil once it is ready for pods.
func (k *kube) node(ctx context.Context, name string) error {
	var node struct {
		Spec struct {
			Taints []struct{ Key string } `json:"taints"`
		} `json:"spec"`
		Status struct {
			Conditions []struct{ Type, Status string } `json:"conditions"`
		} `json:"status"`
	}
	err := k.call(ctx, http.MethodGet, "/api/v1/nodes/"+name, nil, &node)
	if errors.Is(err, errAbsent) {
		body := map[string]any{
			"apiVersion": "v1", "kind": "Node",
			"metadata": map[string]any{"name": name, "labels": map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
		}
		if err := k.call(ctx, http.MethodPost, "/api/v1/nodes", body, nil); err != nil {
			return err
		}
		return fmt.Errorf("node %q was just made", name)
	}
	if err != nil {
		return err
	}
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("node %q still has the taint %q", name, node.Spec.Taints[0].Key)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		}
	}
	return fmt.Errorf("node %q is not ready", name)
}

var errAbsent = errors.New("status 404")

func (k *kube) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNotFound:
		return errAbsent
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	case out == nil:
		return nil
	}
	return json.Unmarshal(data, out)
}

// moduleRoot returns the folder of the main module's go.mod, which lies above every folder that a test runs in.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module github.com/keywright/keywright\n") {
			return dir
		}
		if up := filepath.Dir(dir); up != dir {
			dir = up
			continue
		}
		t.Fatal("the test does not run inside the source tree")
	}
}

// required returns the version that a go.mod file requires of a module.
func required(t testing.TB, gomod, module string) string {
	t.Helper()
	data, err := os.ReadFile(gomod)
	if err != nil {
		t.Fatal(err)
	}
	version, ok := requirement(data, module)
	if !ok {
		t.Fatalf("%s requires no %s", gomod, strconv.Quote(module))
	}
	return version
}

func requirement(gomod []byte, module string) (version string, ok bool) {
	lines := bufio.NewScanner(bytes.NewReader(gomod))
	for lines.Scan() {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], true
		}
	}
	return "", false
}
