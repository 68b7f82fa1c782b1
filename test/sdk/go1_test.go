package sdk_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	anthropic1 "github.com/anthropics/anthropic-sdk-go"
	option1 "github.com/anthropics/anthropic-sdk-go/option"

	"github.com/keywright/keywright/internal/simulator"
)

func client1(p *prepared, value string) anthropic1.Client {
	return anthropic1.NewClient(option1.WithoutEnvironmentDefaults(), option1.WithBaseURL(simulator.PipeURL), option1.WithHTTPClient(p.client), option1.WithAPIKey(value))
}

func message1() anthropic1.MessageNewParams {
	return anthropic1.MessageNewParams{
		Model: anthropic1.ModelClaudeHaiku4_5, MaxTokens: 64, Temperature: anthropic1.Float(0.5),
		Messages: []anthropic1.MessageParam{anthropic1.NewUserMessage(anthropic1.NewTextBlock("hello"))},
	}
}

// TestGo1 shows that the old line works: X-Api-Key, version 2023-06-01 and
// sampling parameters.
func TestGo1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, simulator.Options{})
		c, admin := client1(p, p.value), client1(p, p.admin)
		ctx := t.Context()
		m, err := c.Messages.New(ctx, message1())
		if err != nil || m.Content[0].Text == "" || m.StopReason != anthropic1.StopReasonEndTurn {
			t.Fatalf("message: %v %v", m, err)
		}
		if r := p.Requests(); r[0].Version != simulator.Version20230601 {
			t.Errorf("version %q", r[0].Version)
		}
		stream := c.Messages.NewStreaming(ctx, message1())
		var got anthropic1.Message
		for stream.Next() {
			if err := got.Accumulate(stream.Current()); err != nil {
				t.Fatal(err)
			}
		}
		if stream.Err() != nil || got.Content[0].Text != m.Content[0].Text {
			t.Errorf("streamed message: %v %v", got, stream.Err())
		}
		n, err := c.Messages.CountTokens(ctx, anthropic1.MessageCountTokensParams{Model: anthropic1.ModelClaudeHaiku4_5, Messages: message1().Messages})
		if err != nil || n.InputTokens != m.Usage.InputTokens {
			t.Errorf("count_tokens: %v %v", n, err)
		}
		models, err := c.Models.List(ctx, anthropic1.ModelListParams{})
		if err != nil || len(models.Data) == 0 {
			t.Errorf("models: %v %v", models, err)
		}
		b, err := c.Messages.Batches.New(ctx, anthropic1.MessageBatchNewParams{Requests: []anthropic1.MessageBatchNewParamsRequest{{
			CustomID: "a", Params: anthropic1.MessageBatchNewParamsRequestParams{Model: anthropic1.ModelClaudeHaiku4_5, MaxTokens: 64, Messages: message1().Messages},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		results := c.Messages.Batches.ResultsStreaming(ctx, b.ID, anthropic1.MessageBatchResultsParams{})
		if !results.Next() || results.Current().Result.AsSucceeded().Message.Content[0].Text == "" {
			t.Errorf("results: %v", results.Err())
		}
		if results.Next() || results.Err() != nil {
			t.Errorf("after the results: %v", results.Err())
		}
		f, err := c.Files.Upload(ctx, anthropic1.FileUploadParams{File: anthropic1.File(strings.NewReader("content"), "a.txt", "text/plain"), ExpiresInSeconds: anthropic1.Int(7200)})
		if err != nil || f.Filename != "a.txt" || f.MimeType != "text/plain" || f.SizeBytes != 7 || f.ExpiresAt.Sub(f.CreatedAt) != 2*time.Hour {
			t.Fatalf("file: %v %v", f, err)
		}
		files, err := c.Files.List(ctx, anthropic1.FileListParams{IDs: []string{f.ID, "file_none"}})
		if err != nil || len(files.Data) != 1 || files.Data[0].ID != f.ID {
			t.Errorf("files: %v %v", files, err)
		}
		named := message1()
		named.Messages = []anthropic1.MessageParam{anthropic1.NewUserMessage(anthropic1.NewDocumentBlock(anthropic1.FileDocumentSourceParam{FileID: f.ID}), anthropic1.NewTextBlock("hi"))}
		if _, err := c.Messages.New(ctx, named); err != nil {
			t.Errorf("message with a file: %v", err)
		}
		if gone, err := c.Files.Delete(ctx, f.ID, anthropic1.FileDeleteParams{}); err != nil || gone.ID != f.ID {
			t.Errorf("deleted file: %v %v", gone, err)
		}

		p.Fail(simulator.Fault{Status: 529, Path: "/v1/messages", Times: 1})
		p.ForgetRequests()
		if _, err := c.Messages.New(ctx, message1()); err != nil || !slices.Equal(p.sent("/v1/messages"), []int{529, 200}) {
			t.Errorf("retry: %v %v", p.sent("/v1/messages"), err)
		}

		k, err := admin.Beta.Organization.APIKeys.Get(ctx, p.keyID)
		if err != nil || k.JSON.WorkspaceID.Raw() != strconv.Quote(p.workspace) || k.Scope.WorkspaceID != p.workspace {
			t.Fatalf("key: %v %v", k, err)
		}
		if _, err := admin.Organization.APIKeys.Update(ctx, p.keyID, anthropic1.OrganizationAPIKeyUpdateParams{Status: anthropic1.OrganizationAPIKeyUpdateParamsStatusArchived}); err != nil {
			t.Fatal(err)
		}
		p.ForgetRequests()
		_, err = c.Messages.New(ctx, message1())
		var refused *anthropic1.Error
		if !errors.As(err, &refused) || refused.StatusCode != 401 || len(p.Refused()) != 1 {
			t.Errorf("dead key: %v, %d calls", err, len(p.Refused()))
		}
	})
}
