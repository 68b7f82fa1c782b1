package awsclient_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keywright/keywright/internal/awsclient"
	"github.com/keywright/keywright/internal/fault"
)

func TestEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"": true, "https://vpce.example": true, "http://127.0.0.1:5000": true, "http://[::1]:5000/aws": true, "http://localhost:5000": true,
		"http://192.0.2.1": false, "http://127.0.0.1.example": false, "https://u:p@vpce.example": false, "https://vpce.example?a=b": false, "ftp://vpce.example": false, "http://127.0.0.1:5000@vpce.example": false, "vpce.example": false,
	} {
		if _, err := awsclient.New(awsclient.Options{Endpoint: endpoint}); (err == nil) != ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestSharedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://192.0.2.1", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": path, "AWS_SHARED_CREDENTIALS_FILE": path, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	build := func(o awsclient.Options) *awsclient.Client {
		c, err := awsclient.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	profile, region := build(awsclient.Options{Profile: "work"}), build(awsclient.Options{})
	if _, err := profile.SecretsManager(t.Context()); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "work") {
		t.Errorf("no such profile: %v", err)
	}
	if _, err := region.SecretsManager(t.Context()); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
		t.Errorf("no region: %v", err)
	}
	// What failed is tried again.
	if err := os.WriteFile(path, []byte("[profile work]\nregion = eu-west-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sdk, err := profile.SecretsManager(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o := sdk.Options(); o.Region != "eu-west-1" || aws.ToString(o.BaseEndpoint) != "" {
		t.Errorf("region %q, endpoint %q", o.Region, aws.ToString(o.BaseEndpoint))
	}
	if again, err := profile.SecretsManager(t.Context()); err != nil || again != sdk {
		t.Errorf("the client was made twice: %v", err)
	}
	// A broken file is not quoted.
	if err := os.WriteFile(path, []byte("[profile work\nregion = foreign-text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := build(awsclient.Options{Profile: "work"}).SecretsManager(t.Context()); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "foreign") {
		t.Errorf("a broken file: %v", err)
	}
}
