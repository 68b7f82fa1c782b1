package awssecretsmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keywright/keywright/internal/awsclient"
	"github.com/keywright/keywright/internal/awswire"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// client makes the five calls that the driver needs and turns their errors into kinds.
type client struct {
	cfg Config
	aws *awsclient.Client
}

func (c *client) describe(ctx context.Context) (*sm.DescribeSecretOutput, error) {
	return call(ctx, c, "DescribeSecret", false, func(ctx context.Context, s *sm.Client) (*sm.DescribeSecretOutput, error) {
		return s.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &c.cfg.Secret})
	})
}

// get reads one version: by its id, or by a label when id is empty.
func (c *client) get(ctx context.Context, id, label string) (version string, text secret.Value, err error) {
	in := &sm.GetSecretValueInput{SecretId: &c.cfg.Secret}
	if id != "" {
		in.VersionId = &id
	} else {
		in.VersionStage = &label
	}
	out, err := call(ctx, c, "GetSecretValue", false, func(ctx context.Context, s *sm.Client) (*sm.GetSecretValueOutput, error) {
		return s.GetSecretValue(ctx, in)
	})
	if err != nil {
		return "", secret.Value{}, err
	}
	if out.SecretString == nil {
		clear(out.SecretBinary)
		return "", secret.Value{}, fault.New(fault.Unsupported, "read secret: it holds binary data", fault.Hint("store the key as a string: put-secret-value --secret-string"))
	}
	return aws.ToString(out.VersionId), secret.New([]byte(*out.SecretString)), nil
}

// put makes the version id with this text and label, or finds it made already, and gives the labels that it has now.
func (c *client) put(ctx context.Context, id, label string, text secret.Value) ([]string, error) {
	out, err := call(ctx, c, "PutSecretValue", true, func(ctx context.Context, s *sm.Client) (*sm.PutSecretValueOutput, error) {
		return s.PutSecretValue(ctx, &sm.PutSecretValueInput{SecretId: &c.cfg.Secret, ClientRequestToken: &id, VersionStages: []string{label}, SecretString: aws.String(text.RevealString())})
	})
	if err != nil {
		return nil, err
	}
	return out.VersionStages, nil
}

// move takes label from one version and gives it to another; either may be empty.
func (c *client) move(ctx context.Context, label, from, to string) error {
	in := &sm.UpdateSecretVersionStageInput{SecretId: &c.cfg.Secret, VersionStage: &label}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	if to != "" {
		in.MoveToVersionId = &to
	}
	_, err := call(ctx, c, "UpdateSecretVersionStage", true, func(ctx context.Context, s *sm.Client) (*sm.UpdateSecretVersionStageOutput, error) {
		return s.UpdateSecretVersionStage(ctx, in)
	})
	return err
}

// call makes one call and classifies its failure.
func call[T any](ctx context.Context, c *client, action string, write bool, do func(context.Context, *sm.Client) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, fault.In(context.Cause(ctx), "call "+action)
	}
	sdk, err := c.aws.SecretsManager(ctx)
	if err != nil {
		return zero, err
	}
	var way progress
	out, err := do(context.WithValue(ctx, progressKey{}, &way), sdk)
	if err != nil {
		return zero, c.classify(ctx, action, write, &way, err)
	}
	return out, nil
}

// A failure is what an error code of the service means. The codes come from the service's reference, "Common errors".
type failure struct {
	kind  fault.Kind
	hint  string // {action} and {secret} are filled in
	codes []string
}

var failures = []failure{
	{fault.NotFound, "aws secretsmanager describe-secret --secret-id {secret}", []string{"ResourceNotFoundException"}},
	{fault.Forbidden, "allow secretsmanager:{action} on {secret}; with a customer-managed KMS key also kms:Decrypt and kms:GenerateDataKey on that key", []string{"AccessDeniedException", "AccessDenied", "NotAuthorized", "UnauthorizedOperation", "DecryptionFailure", "EncryptionFailure"}},
	{fault.Unauthenticated, "try: aws sts get-caller-identity; an expired session, or a clock that is wrong, also ends here", []string{"UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "OptInRequired"}},
	{fault.RateLimited, "", []string{"ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "TooManyRequestsException"}},
	{fault.RateLimited, "{secret} has reached a quota of the service, most likely that of 100 versions; versions without labels go away after a day", []string{"LimitExceededException"}},
	{fault.Conflict, "look at it: aws secretsmanager describe-secret --secret-id {secret}", []string{"InvalidRequestException", "ResourceExistsException", "PreconditionNotMetException"}},
	{fault.Invalid, "look at it: aws secretsmanager describe-secret --secret-id {secret}", []string{"InvalidParameterException", "ValidationException", "ValidationError", "InvalidParameterValue"}},
	{fault.Unavailable, "", []string{"ServiceUnavailable", "ServiceUnavailableException"}},
}

// classify makes our error from the SDK's. Of the foreign error only the code enters the text, and only a code from the list.
func (c *client) classify(ctx context.Context, action string, write bool, way *progress, err error) error {
	what := "call " + action
	lost := fault.Unavailable // what a reply that never came means
	if write {
		lost = fault.Indeterminate
	}
	response, answered := errors.AsType[*smithyhttp.ResponseError](err)
	// The SDK stands in an empty response with status 0 where none came.
	if !answered || response.Response == nil || response.Response.Response == nil || response.Response.StatusCode == 0 {
		switch {
		case way.written.Load() && write:
			return fault.New(lost, what+": the request was sent and no reply came")
		case ctx.Err() != nil:
			return fault.In(context.Cause(ctx), what)
		case way.written.Load():
			return fault.New(lost, what+": no reply came")
		case way.begun.Load():
			return fault.New(fault.Unavailable, what+": the service cannot be reached", fault.Hint("look at the network, the region %q and the endpoint", c.cfg.Region))
		}
		return fault.New(fault.Unauthenticated, what+": the SDK found no way to sign the request", fault.Hint("try: aws sts get-caller-identity"))
	}
	var opts []fault.Option
	if s, err := strconv.Atoi(response.Response.Header.Get("Retry-After")); err == nil && s > 0 && s <= 3600 {
		opts = append(opts, fault.RetryAfter(time.Duration(s)*time.Second))
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		for _, f := range failures {
			if slices.Contains(f.codes, api.ErrorCode()) {
				if f.hint != "" {
					opts = append(opts, fault.Hint("%s", strings.NewReplacer("{action}", action, "{secret}", c.cfg.Secret).Replace(f.hint)))
				}
				return fault.New(f.kind, what+": "+api.ErrorCode(), opts...)
			}
		}
	}
	status := response.Response.StatusCode
	kind := lost
	switch {
	case status == http.StatusUnauthorized:
		kind = fault.Unauthenticated
	case status == http.StatusForbidden:
		kind = fault.Forbidden
	case status == http.StatusNotFound:
		kind = fault.NotFound
	case status == http.StatusConflict:
		kind = fault.Conflict
	case status == http.StatusTooManyRequests:
		kind = fault.RateLimited
	case status == http.StatusServiceUnavailable:
		kind = fault.Unavailable
	case status >= 300 && status < 500 && status != http.StatusRequestTimeout:
		kind = fault.Invalid
	}
	return fault.New(kind, fmt.Sprintf("%s: status %d and a reply that is not understood", what, status), opts...)
}

// progress says how far one request came. It travels in the request's context.
type progress struct{ begun, written atomic.Bool }

type progressKey struct{}

// wire is the HTTP client of the SDK's Secrets Manager calls: it notes whether a request went out.
type wire struct{ http awswire.Doer }

var _ sm.HTTPClient = (*wire)(nil)

func newWire() *wire { return &wire{awswire.New()} }

func (w *wire) Do(req *http.Request) (*http.Response, error) {
	if way, ok := req.Context().Value(progressKey{}).(*progress); ok {
		way.begun.Store(true)
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{WroteHeaders: func() { way.written.Store(true) }}))
	}
	return w.http.Do(req)
}
