//go:build real

package awssecrets_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource/awssecrets"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestRealSecretsManager(t *testing.T) {
	endpoint := peers.Moto(t) // before the environment changes, which it inherits
	awsEnv(t)
	cfg, err := awsconfig.LoadDefaultConfig(t.Context(), awsconfig.WithRegion("us-east-1"), awsconfig.WithBaseEndpoint(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	client := sm.NewFromConfig(cfg, func(o *sm.Options) { o.BaseEndpoint = &endpoint })
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	made, err := client.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("app/anthropic"), SecretString: aws.String(`{"api_key":"` + a.RevealString() + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app/anthropic", *made.ARN} {
		r, err := awssecrets.New(awssecrets.Config{Secret: name, Field: "api_key", Region: "us-east-1", Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Read(t.Context()); err != nil || !got.Value.Equal(a) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := client.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: made.ARN, SecretString: aws.String(`{"api_key":"` + b.RevealString() + `"}`)}); err != nil {
		t.Fatal(err)
	}
	for stage, want := range map[string]bool{"": true, "AWSPREVIOUS": false} {
		r, err := awssecrets.New(awssecrets.Config{Secret: *made.ARN, Field: "api_key", Stage: stage, Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Read(t.Context()); err != nil || got.Value.Equal(b) != want {
			t.Errorf("%q after a change: %v", stage, err)
		}
	}
	r, err := awssecrets.New(awssecrets.Config{Secret: "none", Region: "us-east-1", Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
