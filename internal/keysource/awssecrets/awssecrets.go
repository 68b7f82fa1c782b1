// Package awssecrets reads a value from AWS Secrets Manager. It asks again and again, since the service tells nobody of a change, writes
// nothing, and shows no text of a reply but its error code. The gateway and package keyring/awssecrets read with it.
package awssecrets

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keywright/keywright/internal/awsclient"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
)

// DefaultEvery is the pause between two looks. A look is one call, which costs.
const DefaultEvery = time.Minute

// Config names a secret.
type Config struct {
	// Secret is its name or ARN. Field is the member of the JSON object that it is; empty means that the whole text is the value.
	Secret, Field string
	// Region is that of the secret; without it that of the ARN, else that of the environment and the shared files. Profile names one of these.
	Region, Profile string
	// Stage is the label of the version; empty means AWSCURRENT.
	Stage string
	// Endpoint replaces the service's address: https, or http on this host. The environment's AWS_ENDPOINT_URL is never used.
	Endpoint string
	// Every is the pause between two looks; zero means DefaultEvery.
	Every time.Duration
}

// Reader reads one secret. It is safe for concurrent use.
type Reader struct {
	c   Config
	aws *awsclient.Client
}

var _ keysource.Reader = (*Reader)(nil)

// New checks the configuration. It asks nothing yet. Kind: Invalid.
func New(c Config) (*Reader, error) {
	if c.Every <= 0 {
		c.Every = DefaultEvery
	}
	if c.Stage == "" {
		c.Stage = "AWSCURRENT"
	}
	// arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
	if part := strings.SplitN(c.Secret, ":", 7); c.Region == "" && len(part) == 7 && part[0] == "arn" {
		c.Region = part[3]
	}
	if c.Secret == "" {
		return nil, fault.New(fault.Invalid, "open AWS secret: no name or ARN is given")
	}
	sdk, err := awsclient.New(awsclient.Options{Region: c.Region, Profile: c.Profile, Endpoint: c.Endpoint})
	if err != nil {
		return nil, fault.In(err, "open AWS secret")
	}
	return &Reader{c: c, aws: sdk}, nil
}

// Wait implements keysource.Reader: it looks every now and then.
func (r *Reader) Wait(ctx context.Context, _ string) error { return keysource.Poll(ctx, r.c.Every) }

// Read implements keysource.Reader. There is no generation: a label may go back to an older version by intent.
func (r *Reader) Read(ctx context.Context) (keysource.Reading, error) {
	if err := ctx.Err(); err != nil {
		return keysource.Reading{}, fault.In(context.Cause(ctx), r.verb())
	}
	sdk, err := r.aws.SecretsManager(ctx)
	if err != nil {
		return keysource.Reading{}, fault.In(err, r.verb())
	}
	out, err := sdk.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &r.c.Secret, VersionStage: &r.c.Stage})
	if err != nil {
		return keysource.Reading{}, r.classify(ctx, err)
	}
	if out.SecretString == nil {
		clear(out.SecretBinary)
		return keysource.Reading{}, fault.New(fault.Unsupported, r.verb()+": it holds binary data", fault.Hint("store the key as text: aws secretsmanager put-secret-value --secret-string"))
	}
	v, err := keysource.Member([]byte(*out.SecretString), r.c.Field)
	return keysource.Reading{Value: v, Mark: "poll"}, fault.In(err, r.verb())
}

func (r *Reader) verb() string { return fmt.Sprintf("read AWS secret %q", r.c.Secret) }

// codes gives a kind and a hint to the error codes of the service. Any other code is not shown.
var codes = []struct {
	kind  fault.Kind
	hint  string
	codes []string
}{
	{fault.NotFound, "aws secretsmanager describe-secret --secret-id SECRET", []string{"ResourceNotFoundException"}},
	{fault.Forbidden, "allow secretsmanager:GetSecretValue on it; with a KMS key of your own also kms:Decrypt", []string{"AccessDeniedException", "AccessDenied", "DecryptionFailure"}},
	{fault.Unauthenticated, "try: aws sts get-caller-identity", []string{"UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "ExpiredTokenException", "ExpiredToken", "IncompleteSignature"}},
	{fault.RateLimited, "", []string{"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"}},
	{fault.Invalid, "aws secretsmanager describe-secret --secret-id SECRET", []string{"InvalidParameterException", "InvalidRequestException", "ValidationException"}},
}

// classify makes our error of the SDK's. Of the foreign one only the code enters the text, and only a code from the list.
func (r *Reader) classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.In(context.Cause(ctx), r.verb())
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		for _, c := range codes {
			for _, code := range c.codes {
				if api.ErrorCode() == code {
					return fault.New(c.kind, r.verb()+": "+code, fault.Hint("%s", c.hint))
				}
			}
		}
	}
	res, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || res.HTTPStatusCode() == 0 {
		return fault.New(fault.Unavailable, r.verb()+": no answer", fault.Hint("look at the network, the region, and: aws sts get-caller-identity"))
	}
	kind := fault.Unavailable
	switch status := res.HTTPStatusCode(); {
	case status == http.StatusForbidden:
		kind = fault.Forbidden
	case status == http.StatusTooManyRequests:
		kind = fault.RateLimited
	case status >= 300 && status < 500:
		kind = fault.Invalid
	}
	return fault.Newf(kind, "%s: status %d and an answer that is not understood", r.verb(), res.HTTPStatusCode())
}
