// Package awsclient makes the AWS SDK's client for Secrets Manager: from the SDK's usual search for an identity, a region, a profile, and an
// address that only our own configuration can change. It calls nothing, repeats no call, writes no log, and shows no text of the SDK, which may
// quote lines of the shared files. Called by the AWS location and the AWS source of keys.
package awsclient

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/logging"

	"github.com/keywright/keywright/internal/awswire"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
)

// Options says which service is meant, and as whom.
type Options struct {
	// Region is that of the secrets; without it that of the environment or the shared files.
	Region string
	// Profile names one of the shared files; without it the SDK's usual search finds the access key or role.
	Profile string
	// Endpoint replaces the service's address: https, or http on this host. The environment's AWS_ENDPOINT_URL is never used.
	Endpoint string
	// HTTP sends the requests; nil means awswire.New.
	HTTP awswire.Doer
}

// Client makes the SDK's client on first use and keeps it. It is safe for concurrent use.
type Client struct {
	options Options

	mu  sync.Mutex
	sdk *sm.Client
}

// New checks the options. It reads no file and opens no connection. Kind: Invalid.
func New(o Options) (*Client, error) {
	if o.Endpoint != "" {
		if _, err := httpx.ParseBase(o.Endpoint); err != nil {
			return nil, fault.New(fault.Invalid, "the endpoint is neither an https address nor http on this host", fault.Hint("leave it out to use the service's own"))
		}
	}
	if o.HTTP == nil {
		o.HTTP = awswire.New()
	}
	return &Client{options: o}, nil
}

// SecretsManager gives the SDK's client. A failure is not remembered, so that a repaired profile is taken up. Kind: Invalid.
func (c *Client) SecretsManager(ctx context.Context) (*sm.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sdk != nil {
		return c.sdk, nil
	}
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithLogger(logging.Nop{}),                                   // otherwise the SDK writes warnings to standard error
		awsconfig.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // the caller decides when to ask again
	}
	if c.options.Region != "" {
		options = append(options, awsconfig.WithRegion(c.options.Region))
	}
	if c.options.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(c.options.Profile))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		if _, missing := errors.AsType[awsconfig.SharedConfigProfileNotExistError](err); missing {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("load AWS configuration: no profile %q", c.options.Profile), fault.Hint("aws configure list-profiles"))
		}
		return nil, fault.New(fault.Invalid, "load AWS configuration: the SDK cannot use the environment or the shared files", fault.Hint("try: aws sts get-caller-identity"))
	}
	if cfg.Region == "" {
		return nil, fault.New(fault.Invalid, "load AWS configuration: no region is given", fault.Hint("give the region, name the secret by its ARN, or set AWS_REGION"))
	}
	c.sdk = sm.NewFromConfig(cfg, func(o *sm.Options) {
		o.HTTPClient = c.options.HTTP
		o.BaseEndpoint = nil
		if c.options.Endpoint != "" {
			o.BaseEndpoint = &c.options.Endpoint
		}
	})
	return c.sdk, nil
}
