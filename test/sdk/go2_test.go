package sdk_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/keywright/keywright/internal/simulator"
)

func client2(p *prepared, value string) anthropic.Client {
	return anthropic.NewClient(option.WithoutEnvironmentDefaults(), option.WithBaseURL(simulator.PipeURL), option.WithHTTPClient(p.client), option.WithAPIKey(value))
}

func message2() anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: anthropic.ModelClaudeHaiku5_5, MaxTokens: 64,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
	}
}

func TestGo2Inference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, simulator.Options{BatchDuration: time.Minute})
		c := client2(p, p.value)
		ctx := t.Context()

		m, err := c.Messages.New(ctx, message2())
		if err != nil {
			t.Fatal(err)
		}
		if m.StopReason != anthropic.StopReasonEndTurn || len(m.Content) != 1 || m.Content[0].Text == "" || m.Usage.OutputTokens == 0 {
			t.Errorf("message: %s", m.RawJSON())
		}

		stream := c.Messages.NewStreaming(ctx, message2())
		var got anthropic.Message
		for stream.Next() {
			if err := got.Accumulate(stream.Current()); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if got.Content[0].Text != m.Content[0].Text || got.Usage.OutputTokens != m.Usage.OutputTokens || got.StopReason != m.StopReason {
			t.Errorf("streamed message: %+v", got.Usage)
		}

		n, err := c.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: anthropic.ModelClaudeHaiku5_5, Messages: message2().Messages})
		if err != nil || n.InputTokens != m.Usage.InputTokens {
			t.Errorf("count_tokens: %v %v", n, err)
		}

		var models []string
		for pager := c.Models.ListAutoPaging(ctx, anthropic.ModelListParams{Limit: anthropic.Int(4)}); pager.Next(); {
			models = append(models, pager.Current().ID)
		}
		if !slices.Contains(models, "claude-haiku-5-5") || len(models) < 10 {
			t.Errorf("models: %v", models)
		}
		info, err := c.Models.Get(ctx, "claude-haiku-5-5", anthropic.ModelGetParams{})
		if err != nil || info.Lifecycle != anthropic.ModelInfoLifecycleActive {
			t.Errorf("model: %v %v", info, err)
		}

		b, err := c.Messages.Batches.New(ctx, anthropic.MessageBatchNewParams{Requests: []anthropic.MessageBatchNewParamsRequest{{
			CustomID: "a", Params: anthropic.MessageBatchNewParamsRequestParams{Model: anthropic.ModelClaudeHaiku5_5, MaxTokens: 64, Messages: message2().Messages},
		}}})
		if err != nil || b.ProcessingStatus != anthropic.MessageBatchProcessingStatusInProgress {
			t.Fatalf("batch: %v %v", b, err)
		}
		time.Sleep(time.Minute)
		if b, err = c.Messages.Batches.Get(ctx, b.ID, anthropic.MessageBatchGetParams{}); err != nil || b.RequestCounts.Succeeded != 1 {
			t.Fatalf("ended batch: %v %v", b, err)
		}
		results := c.Messages.Batches.ResultsStreaming(ctx, b.ID, anthropic.MessageBatchResultsParams{})
		for results.Next() {
			if r := results.Current(); r.CustomID != "a" || r.Result.AsSucceeded().Message.Content[0].Text == "" {
				t.Errorf("result: %s", r.RawJSON())
			}
		}
		if err := results.Err(); err != nil {
			t.Error(err)
		}
		if p.RequestsOf(p.keyID) != 3 {
			t.Errorf("%d requests billed, want 3", p.RequestsOf(p.keyID))
		}
	})
}

func TestGo2FilesAndSkills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, simulator.Options{})
		c := client2(p, p.value)
		ctx := t.Context()
		var files []string
		for range 3 {
			f, err := c.Files.Upload(ctx, anthropic.FileUploadParams{File: anthropic.File(strings.NewReader("content"), "a.txt", "text/plain")})
			if err != nil || f.SizeBytes != 7 || f.Downloadable || !f.ExpiresAt.IsZero() {
				t.Fatalf("file: %v %v", f, err)
			}
			files = slices.Insert(files, 0, f.ID)
		}
		var listed []string
		for pager := c.Files.ListAutoPaging(ctx, anthropic.FileListParams{Limit: anthropic.Int(2)}); pager.Next(); {
			listed = append(listed, pager.Current().ID)
		}
		if !slices.Equal(listed, files) {
			t.Errorf("files: %v, want %v", listed, files)
		}
		var refused *anthropic.Error
		if _, err := c.Files.Download(ctx, files[0], anthropic.FileDownloadParams{}); !errors.As(err, &refused) || refused.ErrorCode() != anthropic.ErrorCodeFileNotDownloadable {
			t.Errorf("content of an uploaded file: %v", err)
		}

		skill := func(text string) []io.Reader {
			return []io.Reader{anthropic.File(strings.NewReader(text), "brief/SKILL.md", "text/markdown"), anthropic.File(strings.NewReader("x"), "brief/a/b.md", "text/markdown")}
		}
		s, err := c.Skills.New(ctx, anthropic.SkillNewParams{Files: skill("one"), DisplayName: anthropic.String("Brief")})
		if err != nil || s.DisplayName != "Brief" || s.Source.Type != anthropic.SkillSourceTypeCustom {
			t.Fatalf("skill: %v %v", s, err)
		}
		v, err := c.Skills.Versions.New(ctx, s.ID, anthropic.SkillVersionNewParams{Files: skill("two")})
		if err != nil || v.SkillID != s.ID || v.Name != "brief" {
			t.Fatalf("version: %v %v", v, err)
		}
		if _, err := c.Skills.Versions.Delete(ctx, s.LatestVersionID, anthropic.SkillVersionDeleteParams{SkillID: s.ID}); err != nil {
			t.Errorf("deleted version: %v", err)
		}
		versions, err := c.Skills.Versions.List(ctx, s.ID, anthropic.SkillVersionListParams{})
		if err != nil || len(versions.Data) != 1 || versions.Data[0].ID != v.ID {
			t.Errorf("versions: %v %v", versions, err)
		}
		m, err := c.Messages.New(ctx, anthropic.MessageNewParams{
			Model: anthropic.ModelClaudeOpus5_5, MaxTokens: 1024, Messages: message2().Messages,
			Tools: []anthropic.ToolUnionParam{{OfCodeExecutionTool20250825: &anthropic.CodeExecutionTool20250825Param{}}},
			Container: anthropic.MessageCreateParamsContainerUnion{OfContainers: &anthropic.ContainerParams{
				Skills: []anthropic.SkillParams{{SkillID: s.ID, Type: anthropic.SkillParamsTypeCustom}, {SkillID: "pdf", Type: anthropic.SkillParamsTypeAnthropic}},
			}},
		})
		if err != nil || len(m.Container.Skills) != 2 || m.Container.Skills[0].Version != v.ID || len(m.Content) != 3 {
			t.Fatalf("message with skills: %v", err)
		}
		made := m.Content[1].AsBashCodeExecutionToolResult().Content.AsResponseBashCodeExecutionResultBlock().Content[0].FileID
		res, err := c.Files.Download(ctx, made, anthropic.FileDownloadParams{})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err != nil || len(b) == 0 {
			t.Errorf("content: %q %v", b, err)
		}
		if _, err := c.Skills.Delete(ctx, s.ID, anthropic.SkillDeleteParams{}); err != nil {
			t.Errorf("deleted skill: %v", err)
		}
	})
}

func TestGo2Admin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, simulator.Options{})
		c := client2(p, p.admin)
		ctx := t.Context()

		me, err := c.Organization.Get(ctx)
		if err != nil || me.ID != p.Organization() {
			t.Fatalf("organization: %v %v", me, err)
		}
		var ids []string
		pager := c.Organization.APIKeys.ListAutoPaging(ctx, anthropic.OrganizationAPIKeyListParams{Limit: anthropic.Int(1), WorkspaceID: anthropic.String(p.workspace)})
		for pager.Next() {
			k := pager.Current()
			ids = append(ids, k.ID)
			if k.Scope.WorkspaceID != p.workspace || k.Status != anthropic.APIKeyStatusActive || k.CreatedAt.IsZero() || k.CreatedBy.ID == "" {
				t.Errorf("key: %s", k.RawJSON())
			}
		}
		if err := pager.Err(); err != nil || !slices.Equal(ids, []string{p.keyID}) {
			t.Fatalf("keys %v, %v", ids, err)
		}
		k, err := c.Organization.APIKeys.Update(ctx, p.keyID, anthropic.OrganizationAPIKeyUpdateParams{Status: anthropic.OrganizationAPIKeyUpdateParamsStatusInactive})
		if err != nil || k.Status != anthropic.APIKeyStatusInactive || p.Accepts(p.keyID) {
			t.Fatalf("update: %v %v", k, err)
		}
		p.SetKeyLimits(0, 1)
		if _, _, err := p.CreateKey(simulator.CreateKey{Name: "other"}); err != nil {
			t.Fatal(err)
		}
		_, err = c.Organization.APIKeys.Update(ctx, p.keyID, anthropic.OrganizationAPIKeyUpdateParams{Status: anthropic.OrganizationAPIKeyUpdateParamsStatusActive})
		var refused *anthropic.Error
		if !errors.As(err, &refused) || refused.ErrorCode() != anthropic.ErrorCodeOrgAPIKeyLimitExceeded {
			t.Errorf("reactivation beyond the cap: %v", err)
		}

		ws, err := c.Organization.Workspaces.New(ctx, anthropic.OrganizationWorkspaceNewParams{Name: "made by SDK", Tags: map[string]string{"owner": "platform"}})
		if err != nil || ws.Tags["owner"] != "platform" {
			t.Fatalf("workspace: %v %v", ws, err)
		}
		if ws, err = c.Organization.Workspaces.Archive(ctx, ws.ID); err != nil || ws.ArchivedAt.IsZero() {
			t.Errorf("archived workspace: %v %v", ws, err)
		}
		users, err := c.Organization.Users.List(ctx, anthropic.OrganizationUserListParams{})
		if err != nil || len(users.Data) != 1 || users.Data[0].Role != anthropic.OrganizationRoleAdmin {
			t.Errorf("users: %v %v", users, err)
		}
	})
}

func TestGo2Analytics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble begins in 2000, before the reports' first day.
		p := prepare(t, simulator.Options{UsageLag: time.Minute})
		p.Advance(time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC).Sub(p.Now()))
		user, admin := client2(p, p.value), client2(p, p.admin)
		ctx := t.Context()
		for range 3 {
			if _, err := user.Messages.New(ctx, message2()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		page, err := admin.Beta.Organization.Analytics.Usage.List(ctx, anthropic.BetaOrganizationAnalyticsUsageListParams{
			StartingAt: p.Now().Add(-time.Hour), EndingAt: anthropic.Time(p.Now()), APIKeyIDs: []string{p.keyID},
			GroupBy:         []anthropic.BetaAnalyticsUsageGroupBy{anthropic.BetaAnalyticsUsageGroupByAPIKeyID},
			TimeBucketWidth: anthropic.BetaAnalyticsTimeBucketWidthMinute,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Data) != 1 || page.Data[0].Usage.Requests != 3 || page.Data[0].Group.APIKeyID != p.keyID || !page.DataRefreshedAt.Equal(p.Now().Add(-time.Minute)) {
			t.Errorf("usage %v, refreshed %v", page.Data, page.DataRefreshedAt)
		}
		cost, err := admin.Beta.Organization.Analytics.Cost.List(ctx, anthropic.BetaOrganizationAnalyticsCostListParams{
			StartingAt: p.Now().Add(-2 * time.Hour), EndingAt: anthropic.Time(p.Now().Add(time.Hour)),
			GroupBy: []anthropic.BetaAnalyticsCostGroupBy{anthropic.BetaAnalyticsCostGroupByAPIKeyID},
		})
		if err != nil || len(cost.Data) != 1 || cost.Data[0].Cost.Requests != 3 || cost.Data[0].Cost.Amount == "0" {
			t.Errorf("cost: %v %v", cost, err)
		}
	})
}

func TestGo2Retries(t *testing.T) {
	tests := []struct {
		name  string
		fault simulator.Fault
		want  []int
		waits time.Duration // at least
	}{
		{"429 with retry-after", simulator.Fault{Status: 429, RetryAfter: 7 * time.Second, Times: 1}, []int{429, 200}, 7 * time.Second},
		{"529 twice", simulator.Fault{Status: 529, Times: 2}, []int{529, 529, 200}, time.Second},
		{"529 three times", simulator.Fault{Status: 529, Times: 3}, []int{529, 529, 529}, time.Second},
		{"dropped reply", simulator.Fault{Kind: simulator.FaultDropAfter, Times: 1}, []int{200, 200}, 0},
		{"401", simulator.Fault{Status: 401, Times: 1}, []int{401}, 0},
		{"403", simulator.Fault{Status: 403, Times: 1}, []int{403}, 0},
		{"400", simulator.Fault{Status: 400, ErrorCode: "organization_on_hold", Times: 1}, []int{400}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := prepare(t, simulator.Options{})
				c := client2(p, p.value)
				p.Fail(tt.fault)
				begin := time.Now()
				_, err := c.Messages.New(t.Context(), message2())
				if d := p.sent("/v1/messages"); !slices.Equal(d, tt.want) {
					t.Errorf("statuses %v, want %v", d, tt.want)
				}
				if (err == nil) != (tt.want[len(tt.want)-1] == 200) {
					t.Errorf("error: %v", err)
				}
				var refused *anthropic.Error
				if err != nil && (!errors.As(err, &refused) || string(refused.ErrorCode()) != tt.fault.ErrorCode || refused.RequestID == "") {
					t.Errorf("error: %v", err)
				}
				if took := time.Since(begin); took < tt.waits {
					t.Errorf("waited %v, want at least %v", took, tt.waits)
				}
			})
		})
	}
}

func TestGo2DeadKeyAndBrokenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := prepare(t, simulator.Options{})
		c := client2(p, p.value)
		p.Fail(simulator.Fault{Kind: simulator.FaultStreamError, Status: 529, After: 2, Times: 1})
		stream := c.Messages.NewStreaming(t.Context(), message2())
		deltas := 0
		for stream.Next() {
			if stream.Current().Type == "content_block_delta" {
				deltas++
			}
		}
		if stream.Err() == nil || deltas != 2 {
			t.Errorf("broken stream: %d deltas, error %v", deltas, stream.Err())
		}
		if err := p.SetStatus(p.keyID, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
		p.ForgetRequests()
		_, err := c.Messages.New(t.Context(), message2())
		var refused *anthropic.Error
		if !errors.As(err, &refused) || refused.StatusCode != 401 || refused.WorkspaceID != "" {
			t.Errorf("dead key: %v", err)
		}
		if r := p.Refused(); len(r) != 1 || r[0].KeyID != p.keyID {
			t.Errorf("refused requests: %v", r)
		}
	})
}
