package custody

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keywright/keywright/internal/awswire"
	"github.com/keywright/keywright/internal/fault"
)

// kmsMaster has data keys encrypted by AWS KMS. The binding goes along as encryption context, by its SHA-256, since KMS
// writes the context into its own logs.
type kmsMaster struct {
	key    string
	region string // empty means that of the AWS configuration
	// build makes the client on first use; it is tried again after an error.
	build func(ctx context.Context, region string) (kmsClient, error)

	mu     sync.Mutex
	client kmsClient
}

// kmsClient is the part of *kms.Client that is used.
type kmsClient interface {
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

var (
	_ Master    = (*kmsMaster)(nil)
	_ kmsClient = (*kms.Client)(nil)

	kmsKey    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9:/_-]{1,480}$`) })
	awsRegion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9-]{1,40}$`) })
)

// kmsTimeout bounds one call, its repetitions included.
const kmsTimeout = 20 * time.Second

func openKMS(spec string) (Master, error) {
	key, query, _ := strings.Cut(spec, "?")
	if !kmsKey().MatchString(key) {
		return nil, badSpec("aws-kms: needs a key id, ARN or alias/NAME")
	}
	m := &kmsMaster{key: key, build: newKMSClient}
	if parts := strings.Split(key, ":"); len(parts) > 3 && parts[0] == "arn" {
		m.region = parts[3]
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, badSpec("what follows ? cannot be read")
	}
	for name, v := range values {
		if name != "region" || len(v) != 1 || !awsRegion().MatchString(v[0]) {
			return nil, badSpec("aws-kms: takes region=REGION alone behind the ?")
		}
		m.region = v[0]
	}
	return m, nil
}

func newKMSClient(ctx context.Context, region string) (kmsClient, error) {
	opts := []func(*awsconfig.LoadOptions) error{awsconfig.WithLogger(logging.Nop{})}
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "set up AWS KMS: the AWS configuration cannot be read", fault.Hint("try: aws sts get-caller-identity"))
	}
	if cfg.Region == "" {
		return nil, fault.New(fault.Invalid, "set up AWS KMS: no region", fault.Hint("write aws-kms:KEY?region=REGION"))
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, fault.In(context.Cause(ctx), "set up AWS KMS")
		}
		return nil, fault.New(fault.Unauthenticated, "set up AWS KMS: no AWS identity found", fault.Hint("try: aws sts get-caller-identity"))
	}
	// cfg.HTTPClient is nil without a CA bundle in the AWS configuration; the options have the client that is then used.
	return kms.NewFromConfig(cfg, func(o *kms.Options) { o.HTTPClient = awswire.Around(o.HTTPClient) }), nil
}

// ID implements Master: "aws-kms:" and the key as configured.
func (m *kmsMaster) ID() string { return "aws-kms:" + m.key }

// Wrap implements Master by one Encrypt.
func (m *kmsMaster) Wrap(ctx context.Context, dataKey, aad []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	client, err := m.get(ctx)
	if err != nil {
		return nil, err
	}
	out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: &m.key, Plaintext: dataKey, EncryptionContext: encryptionContext(aad)})
	if err != nil {
		return nil, m.classify(ctx, err, "kms:Encrypt")
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements Master by one Decrypt, pinned to the key.
func (m *kmsMaster) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	client, err := m.get(ctx)
	if err != nil {
		return nil, err
	}
	out, err := client.Decrypt(ctx, &kms.DecryptInput{KeyId: &m.key, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(aad)})
	if err != nil {
		return nil, m.classify(ctx, err, "kms:Decrypt")
	}
	return out.Plaintext, nil
}

func (m *kmsMaster) get(ctx context.Context) (kmsClient, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client == nil {
		client, err := m.build(ctx, m.region)
		if err != nil {
			return nil, err
		}
		m.client = client
	}
	return m.client, nil
}

func encryptionContext(aad []byte) map[string]string {
	sum := sha256.Sum256(aad)
	return map[string]string{"keywright-binding": hex.EncodeToString(sum[:])}
}

// classify turns an answer of AWS into a kind by its code. Its text is left out.
func (m *kmsMaster) classify(ctx context.Context, err error, permission string) error {
	if ctx.Err() != nil {
		return fault.In(context.Cause(ctx), "ask AWS KMS")
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return fault.New(fault.Unavailable, "ask AWS KMS: no answer", fault.Hint("look at the network, or try: aws kms describe-key --key-id %s", m.key))
	}
	code := api.ErrorCode()
	say := func(kind fault.Kind, what, hint string, args ...any) error {
		return fault.New(kind, fmt.Sprintf("ask AWS KMS about %s: %s", m.key, what), fault.Hint(hint, args...))
	}
	switch code {
	case "InvalidCiphertextException":
		return say(fault.Corrupt, "the wrapped key was altered or belongs elsewhere", "restore the row from a backup of the store")
	case "IncorrectKeyException":
		return say(fault.Forbidden, "another KMS key sealed this", "an alias may point elsewhere now: name the former key by its ARN and re-wrap")
	case "AccessDeniedException":
		return say(fault.Forbidden, "the right is missing", "allow %s on the key", permission)
	case "DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException":
		return say(fault.Forbidden, "the key cannot be used", "enable it, or cancel its deletion; it must be symmetric, for encryption")
	case "NotFoundException":
		return say(fault.NotFound, "no such key in this region", "check key, region and account")
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch":
		return say(fault.Unauthenticated, "AWS refuses the identity", "try: aws sts get-caller-identity")
	case "ThrottlingException", "LimitExceededException", "RequestLimitExceeded":
		return say(fault.RateLimited, "too many requests", "wait a minute, or ask for a higher quota")
	case "ValidationException", "InvalidArnException":
		return say(fault.Invalid, "the key's name is not understood", "name it by id, ARN or alias/NAME")
	}
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.HTTPStatusCode() < 500 {
		return say(fault.Unknown, "it refuses for a reason unknown to Keywright", "try: aws kms describe-key --key-id %s", m.key)
	}
	return say(fault.Unavailable, "it is out of order", "wait and try again")
}
