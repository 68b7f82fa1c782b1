//go:build real

package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestRealMoto(t *testing.T) {
	endpoint := Moto(t)
	sm := secretsmanager.New(secretsmanager.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("peer", "peer", ""),
	})
	value := secrettest.Fake(t).RevealString()
	if _, err := sm.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("peer"), SecretString: &value}); err != nil {
		t.Fatal(err)
	}
	got, err := sm.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("peer")})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(got.SecretString) != value {
		t.Error("the secret read is not the one written")
	}
	// A second server holds none of the first one's data.
	other := Moto(t)
	empty := secretsmanager.New(sm.Options(), func(o *secretsmanager.Options) { o.BaseEndpoint = &other })
	list, err := empty.ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{})
	if err != nil || len(list.SecretList) != 0 {
		t.Errorf("a fresh server lists %d secrets, error %v", len(list.SecretList), err)
	}
}

func TestRealPostgreSQL(t *testing.T) {
	var first string
	t.Run("fresh database", func(t *testing.T) {
		first = PostgreSQL(t)
		conn, err := pgx.Connect(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		var one int
		var fsync string
		if err := conn.QueryRow(t.Context(), "SELECT 1, current_setting('fsync')").Scan(&one, &fsync); err != nil || one != 1 || fsync != "on" {
			t.Errorf("SELECT 1 = %d, fsync = %q, error %v", one, fsync, err)
		}
		second := PostgreSQL(t)
		if first == second {
			t.Error("two calls gave one database")
		}
	})
	if conn, err := pgx.Connect(t.Context(), first); err == nil {
		t.Errorf("the database outlived its test: %v", conn.Close(t.Context()))
	}
}

func TestRealKubernetes(t *testing.T) {
	config, err := clientcmd.BuildConfigFromFlags("", Kubernetes(t))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	cluster, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	namespaces, err := cluster.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).List(t.Context(), v1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, n := range namespaces.Items {
		names[n.GetName()] = true
	}
	if !names["default"] || !names["kube-system"] {
		t.Errorf("namespaces = %v", names)
	}

	deployments := cluster.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("default")
	pods := cluster.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("default")
	create := func(name string, annotations map[string]any) {
		t.Helper()
		labels := map[string]any{"app": name}
		_, err := deployments.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name},
			"spec": map[string]any{
				"replicas": int64(2), "selector": map[string]any{"matchLabels": labels},
				"template": map[string]any{
					"metadata": map[string]any{"labels": labels, "annotations": annotations},
					"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "example.invalid/app:1"}}},
				},
			},
		}}, v1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	// status returns how many of the deployment's pods run and how many are ready.
	status := func(ctx context.Context, name string) (running, ready int, err error) {
		list, err := pods.List(ctx, v1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return 0, 0, err
		}
		for _, pod := range list.Items {
			if phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase"); phase == "Running" {
				running++
			}
			conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
			for _, c := range conditions {
				if m, ok := c.(map[string]any); ok && m["type"] == "Ready" && m["status"] == "True" {
					ready++
				}
			}
		}
		return running, ready, nil
	}
	create("works", nil)
	create("held", map[string]any{HoldReadyAnnotation: "true"})
	for name, want := range map[string]int{"works": 2, "held": 0} {
		if err := poll(time.Minute, nil, func(ctx context.Context) error {
			running, ready, err := status(ctx, name)
			if err == nil && (running != 2 || ready != want) {
				err = fmt.Errorf("%d running, %d ready pods, want 2, %d", running, ready, want)
			}
			return err
		}); err != nil {
			t.Errorf("deployment %s: %v", name, err)
		}
	}
	// The controllers agree, and the deleted pods go.
	if err := poll(time.Minute, nil, func(ctx context.Context) error {
		d, err := deployments.Get(ctx, "works", v1.GetOptions{})
		if err != nil {
			return err
		}
		if n, _, _ := unstructured.NestedInt64(d.Object, "status", "availableReplicas"); n != 2 {
			return fmt.Errorf("%d available replicas", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := deployments.Delete(t.Context(), "works", v1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := poll(time.Minute, nil, func(ctx context.Context) error {
		list, err := pods.List(ctx, v1.ListOptions{LabelSelector: "app=works"})
		if err == nil && len(list.Items) > 0 {
			err = errors.New("pods remain")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestRealDocker(t *testing.T) {
	host := Docker(t)
	image := ImportImage(t, host)
	docker, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	value := secrettest.Fake(t)
	n := mustPort(t)
	made, err := docker.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Image: image, Name: "app",
		Config:     &container.Config{Env: []string{"ANTHROPIC_API_KEY=" + value.RevealString(), "PORT=" + strconv.Itoa(n)}},
		HostConfig: &container.HostConfig{NetworkMode: "host"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := docker.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := poll(time.Minute, nil, func(ctx context.Context) error {
		return get(ctx, http.DefaultClient, "http://"+loopback(n)+"/healthz")
	}); err != nil {
		t.Errorf("healthz: %v", err)
	}
	if _, err := docker.ContainerStop(t.Context(), made.ID, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	logs, err := docker.ContainerLogs(t.Context(), made.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, logs); err != nil {
		t.Fatal(err)
	}
	if want := "keyapp: key " + string(value.Fingerprint()); strings.TrimSpace(out.String()) != want || errs.Len() > 0 {
		t.Errorf("log = %q, %q; want %q", out.String(), errs.String(), want)
	}
	secrettest.NoLeak(t, "container log", append(out.Bytes(), errs.Bytes()...), value)
	got, err := docker.ContainerInspect(t.Context(), made.ID, client.ContainerInspectOptions{})
	if err != nil || got.Container.State.ExitCode != 0 {
		t.Errorf("exit status %+v, error %v, want 0", got.Container.State, err)
	}
}
