package awssecrets_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/keywright/keywright/keyring"
	"github.com/keywright/keywright/keyring/awssecrets"
)

// A member of a secret in AWS Secrets Manager.
func Example() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"Name":"app/anthropic","SecretString":"{\"api_key\":\"the-value\"}"}`)
	}))
	defer service.Close()
	for _, pair := range [][2]string{{"AWS_ACCESS_KEY_ID", "testing"}, {"AWS_SECRET_ACCESS_KEY", "testing"}, {"AWS_EC2_METADATA_DISABLED", "true"}} {
		if err := os.Setenv(pair[0], pair[1]); err != nil {
			fmt.Println(err)
			return
		}
	}

	source, err := awssecrets.New(awssecrets.Config{Secret: "app/anthropic", Field: "api_key", Region: "eu-central-1", Endpoint: service.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	ring, err := keyring.New(source)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	value, err := ring.Value(context.Background())
	fmt.Println(value, err)
	// Output: [value kf_9fc410830ca6c272] <nil>
}
