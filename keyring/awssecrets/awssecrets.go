// Package awssecrets lets a keyring read from AWS Secrets Manager. It imports the AWS SDK for Go, version 2, which package keyring does not.
//
//	source, err := awssecrets.New(awssecrets.Config{Secret: "app/anthropic", Field: "api_key", Region: "eu-central-1"})
//	ring, err := keyring.New(source)
package awssecrets

import (
	"time"

	"github.com/keywright/keywright/internal/keysource/awssecrets"
	"github.com/keywright/keywright/keyring"
	"github.com/keywright/keywright/keyring/internal/place"
)

// Config names a secret.
type Config struct {
	// Secret is its name or ARN. Field is the member of the JSON object that it is; empty means that the whole text is the value.
	Secret, Field string
	// Region is that of the secret; without it that of the ARN, else that of the environment and the shared files. Profile names one of these.
	Region, Profile string
	// Endpoint replaces the service's address: https, or http on this host. AWS_ENDPOINT_URL of the environment is never used.
	Endpoint string
	// Every is the pause between two looks for a change, each of which is one call; zero means a minute.
	Every time.Duration
}

// New makes a source. It asks nothing yet.
func New(c Config) (keyring.Source, error) {
	r, err := awssecrets.New(awssecrets.Config{Secret: c.Secret, Field: c.Field, Region: c.Region, Profile: c.Profile, Endpoint: c.Endpoint, Every: c.Every})
	if err != nil {
		return nil, err
	}
	return place.New(r), nil
}
