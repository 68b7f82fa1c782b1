package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/anthropics/anthropic-sdk-go"
	o1 "github.com/anthropics/anthropic-sdk-go/option"
	v2 "github.com/anthropics/anthropic-sdk-go/v2"
	o2 "github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/keywright/keywright/internal/simulator"
)

// TestOfficialSDKsWithObjects has both majors of the official Go library make, use, list and delete batches, files and skills through the gateway,
// without repeating, while the key changes; four applications at a time, of which none sees another's.
func TestOfficialSDKsWithObjects(t *testing.T) {
	w := owned(t, simulator.Options{}, nil)
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var rounds [4]atomic.Int64
	for i := range rounds {
		app := fmt.Sprint("app-", i)
		one := v1.NewClient(o1.WithoutEnvironmentDefaults(), o1.WithBaseURL(w.url), o1.WithAPIKey(app), o1.WithHTTPClient(w.client), o1.WithMaxRetries(0))
		two := v2.NewClient(o2.WithoutEnvironmentDefaults(), o2.WithBaseURL(w.url), o2.WithAPIKey(app), o2.WithHTTPClient(w.client), o2.WithMaxRetries(0))
		run := func(ctx context.Context) error { return round1(ctx, one) }
		if i%2 == 1 {
			run = func(ctx context.Context) error { return round2(ctx, two) }
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := run(t.Context()); err != nil {
					t.Errorf("%s: %v", app, err)
					return
				}
				rounds[i].Add(1)
			}
		})
	}
	for range 2 {
		for i := range rounds {
			from := rounds[i].Load()
			w.until("traffic", func() bool { return rounds[i].Load() > from || t.Failed() })
		}
		old, oldID := k, id
		k, id = w.key("primary", simulator.CreateKey{})
		w.swap(Set{Keys: []Key{k}})
		w.until("the old key is drained", func() bool { return w.drained(old) || t.Failed() })
		if err := w.sim.SetStatus(oldID, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
}

func round1(ctx context.Context, c v1.Client) error {
	f, err := c.Files.Upload(ctx, v1.FileUploadParams{File: v1.File(strings.NewReader("content"), "a.txt", "text/plain")})
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	document := v1.NewDocumentBlock(v1.FileDocumentSourceParam{FileID: f.ID})
	messages := []v1.MessageParam{v1.NewUserMessage(document, v1.NewTextBlock("hi"))}
	if _, err := c.Messages.New(ctx, v1.MessageNewParams{Model: "claude-haiku-5-5", MaxTokens: 64, Messages: messages}); err != nil {
		return fmt.Errorf("message with a file: %w", err)
	}
	b, err := c.Messages.Batches.New(ctx, v1.MessageBatchNewParams{Requests: []v1.MessageBatchNewParamsRequest{{
		CustomID: "a", Params: v1.MessageBatchNewParamsRequestParams{Model: "claude-haiku-5-5", MaxTokens: 64, Messages: messages},
	}}})
	if err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	results := c.Messages.Batches.ResultsStreaming(ctx, b.ID, v1.MessageBatchResultsParams{})
	if !results.Next() || results.Current().Result.AsSucceeded().Message.Content[0].Text == "" || results.Next() || results.Err() != nil {
		return fmt.Errorf("results: %w", results.Err())
	}
	var listed []string
	for pager := c.Files.ListAutoPaging(ctx, v1.FileListParams{Limit: v1.Int(1)}); pager.Next(); {
		listed = append(listed, pager.Current().ID)
	}
	for pager := c.Messages.Batches.ListAutoPaging(ctx, v1.MessageBatchListParams{Limit: v1.Int(1)}); pager.Next(); {
		listed = append(listed, pager.Current().ID)
	}
	if got, want := strings.Join(listed, " "), f.ID+" "+b.ID; got != want {
		return fmt.Errorf("listed %q, want %q", got, want)
	}
	if _, err := c.Messages.Batches.Delete(ctx, b.ID, v1.MessageBatchDeleteParams{}); err != nil {
		return fmt.Errorf("delete batch: %w", err)
	}
	if _, err := c.Files.Delete(ctx, f.ID, v1.FileDeleteParams{}); err != nil {
		return fmt.Errorf("delete file: %w", err)
	}
	var gone *v1.Error
	if _, err := c.Files.GetMetadata(ctx, f.ID, v1.FileGetMetadataParams{}); !errors.As(err, &gone) || gone.StatusCode != http.StatusNotFound {
		return fmt.Errorf("a deleted file: %w", err)
	}
	return nil
}

func round2(ctx context.Context, c v2.Client) error {
	s, err := c.Skills.New(ctx, v2.SkillNewParams{Files: []io.Reader{v2.File(strings.NewReader("---\nname: brief\n---\n"), "brief/SKILL.md", "text/markdown")}})
	if err != nil {
		return fmt.Errorf("skill: %w", err)
	}
	ask := v2.MessageNewParams{
		Model: "claude-haiku-5-5", MaxTokens: 64, Messages: []v2.MessageParam{v2.NewUserMessage(v2.NewTextBlock("hi"))},
		Tools: []v2.ToolUnionParam{{OfCodeExecutionTool20250825: &v2.CodeExecutionTool20250825Param{}}},
		Container: v2.MessageCreateParamsContainerUnion{OfContainers: &v2.ContainerParams{
			Skills: []v2.SkillParams{{SkillID: s.ID, Type: v2.SkillParamsTypeCustom, Version: v2.String("latest")}},
		}},
	}
	m, err := c.Messages.New(ctx, ask)
	if err != nil || m.Container.ID == "" {
		return fmt.Errorf("message with a skill: %w", err)
	}
	ask.Container = v2.MessageCreateParamsContainerUnion{OfString: v2.String(m.Container.ID)}
	stream, got := c.Messages.NewStreaming(ctx, ask), v2.Message{}
	for stream.Next() {
		if err := got.Accumulate(stream.Current()); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
	}
	if stream.Err() != nil {
		return fmt.Errorf("stream in a container: %w", stream.Err())
	}
	made := ""
	for _, b := range got.Content {
		if r := b.AsBashCodeExecutionToolResult(); r.Type == "bash_code_execution_tool_result" {
			made = r.Content.AsResponseBashCodeExecutionResultBlock().Content[0].FileID
		}
	}
	res, err := c.Files.Download(ctx, made, v2.FileDownloadParams{})
	if err != nil {
		return fmt.Errorf("download %q: %w", made, err)
	}
	defer res.Body.Close()
	if content, err := io.ReadAll(res.Body); err != nil || len(content) == 0 {
		return fmt.Errorf("content: %w", err)
	}
	own := 0
	for pager := c.Skills.ListAutoPaging(ctx, v2.SkillListParams{Limit: v2.Int(2)}); pager.Next(); {
		if pager.Current().Source.Type == v2.SkillSourceTypeCustom {
			own++
		}
	}
	if own != 1 {
		return fmt.Errorf("%d skills of its own are listed", own)
	}
	if _, err := c.Skills.Delete(ctx, s.ID, v2.SkillDeleteParams{}); err != nil {
		return fmt.Errorf("delete skill: %w", err)
	}
	return nil
}
