//go:build real

package custody_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestRealKMSAgainstMoto(t *testing.T) {
	awsEnv(t, peers.Moto(t))
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"))
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(cfg)
	newKey := func() string {
		out, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		return *out.KeyMetadata.KeyId
	}
	first, second := newKey(), newKey()
	alias := "alias/keywright"
	if _, err := client.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &first}); err != nil {
		t.Fatal(err)
	}
	v, b := secrettest.Fake(t), binding()
	for _, key := range []string{first, alias, "arn:aws:kms:us-east-1:123456789012:key/" + first} {
		m := open(t, "aws-kms:"+key+"?region=us-east-1", custody.Env{})
		c := custody.New(m)
		sealed, err := c.Seal(t.Context(), v, b)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if got, err := c.Open(t.Context(), sealed, b); err != nil || !got.Equal(v) {
			t.Errorf("%s: %v, %v", key, got, err)
		}
		secrettest.NoLeak(t, "sealed value", sealed, v)
		other := b
		other.Generation++
		if _, err := c.Open(t.Context(), sealed, other); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: opened under another binding: %v", key, err)
		}
		to := open(t, "aws-kms:"+second+"?region=us-east-1", custody.Env{})
		moved, err := c.Rewrap(t.Context(), sealed, b, to)
		if err != nil {
			t.Errorf("%s: re-wrap: %v", key, err)
			continue
		}
		if got, err := custody.New(to).Open(t.Context(), moved, b); err != nil || !got.Equal(v) {
			t.Errorf("%s: re-wrapped: %v, %v", key, got, err)
		}
	}
	none := custody.New(open(t, "aws-kms:1234abcd-12ab-34cd-56ef-1234567890ab?region=us-east-1", custody.Env{}))
	if _, err := none.Seal(t.Context(), v, b); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("an unknown key: %v", err)
	}
}
