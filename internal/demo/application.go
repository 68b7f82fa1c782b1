package demo

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Application is a small program as a team might run it: it reads its key once, when it starts, and then calls Claude with the official SDK until
// it is told to stop. To take up another key it must be restarted.
type Application struct {
	// URL is the address of the API.
	URL string
	// File and Variable name the env file with the key; else Secret, in the Secrets Manager at Endpoint.
	File, Variable   string
	Secret, Endpoint string
	// Rate is the number of requests per second, and Workers how many goroutines make them.
	Rate, Workers int
}

// Arguments gives the command line of the application: Flags of the hidden command "demo app". There is no value among them.
func (a Application) Arguments() []string {
	args := []string{"demo", "app", "--url", a.URL, "--rate", strconv.Itoa(a.Rate), "--workers", strconv.Itoa(a.Workers)}
	if a.File != "" {
		return append(args, "--file", a.File, "--variable", a.Variable)
	}
	return append(args, "--secret", a.Secret, "--endpoint", a.Endpoint)
}

// tally counts requests by their outcome. It goes over the wire to the supervisor.
type tally struct {
	Served   int `json:"served"`
	Streamed int `json:"streamed"` // of those served
	// Failed counts by status; 0 stands for a request without an answer.
	Failed map[int]int `json:"failed,omitempty"`
	// First and Last are the times of the first and the last failure.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

func (t tally) failures() int {
	n := 0
	for _, k := range t.Failed {
		n += k
	}
	return n
}

// plus adds up two tallies.
func (t tally) plus(o tally) tally {
	sum := tally{Served: t.Served + o.Served, Streamed: t.Streamed + o.Streamed, First: t.First, Last: t.Last, Failed: map[int]int{}}
	for _, m := range []map[int]int{t.Failed, o.Failed} {
		for status, n := range m {
			sum.Failed[status] += n
		}
	}
	if !o.First.IsZero() && (sum.First.IsZero() || o.First.Before(sum.First)) {
		sum.First = o.First
	}
	if o.Last.After(sum.Last) {
		sum.Last = o.Last
	}
	return sum
}

// report is one line that the application writes.
type report struct {
	// Ready is true in the first line: the key was read and the API accepted it.
	Ready       bool   `json:"ready,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Tally       tally  `json:"tally"`
}

// reportEvery is the time between two lines.
const reportEvery = 100 * time.Millisecond

// Run reads the key, asks the API whether it accepts it, says that it is ready, and works until in ends or ctx does. Then it begins no more requests
// and returns when those under way have their answers. It writes a line of JSON every 100 ms, and one for each line that it reads.
// Kinds: those of reading the key; Unauthenticated when the API refuses it, before any work was done.
func (a Application) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	key, err := a.key(ctx)
	if err != nil {
		return err
	}
	w := &working{
		out: json.NewEncoder(out), fingerprint: string(key.Fingerprint()),
		client: anthropic.NewClient(option.WithoutEnvironmentDefaults(), option.WithBaseURL(a.URL), option.WithAPIKey(key.RevealString()), option.WithMaxRetries(0), option.WithHeader("User-Agent", userAgent),
			option.WithHTTPClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 20 * time.Second}})),
	}
	if _, err := w.client.Models.Get(ctx, model, anthropic.ModelGetParams{}); err != nil {
		return fault.Newf(fault.Unauthenticated, "ask the API about the key: status %d", statusOf(err))
	}
	w.say(true)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for s := bufio.NewScanner(in); s.Scan(); {
			w.say(false)
		}
	}()
	w.work(ctx, a.Rate, a.Workers)
	w.say(false)
	return nil
}

// key reads the key from where this application is deployed.
func (a Application) key(ctx context.Context) (secret.Value, error) {
	if a.File == "" {
		return a.fromSecretsManager(ctx)
	}
	content, err := os.ReadFile(a.File)
	if err != nil {
		return secret.Value{}, fault.Wrap(fault.NotFound, err, "read env file")
	}
	defer clear(content)
	for line := range bytes.Lines(content) {
		if value, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(a.Variable+"=")); ok {
			return secret.New(bytes.Trim(value, `"'`)), nil
		}
	}
	return secret.Value{}, fault.Newf(fault.NotFound, "read env file: it does not set %s", a.Variable)
}

// secretField is the member of the secret's JSON object that holds the key.
const secretField = "api_key"

func (a Application) fromSecretsManager(ctx context.Context) (secret.Value, error) {
	client := awsClient(a.Endpoint)
	// Moto's answer without a stage is stale after a label was moved.
	got, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(a.Secret), VersionStage: aws.String("AWSCURRENT")})
	if err != nil {
		return secret.Value{}, fault.New(fault.NotFound, "read secret: the Secrets Manager did not give it")
	}
	var fields map[string]any
	if json.Unmarshal([]byte(aws.ToString(got.SecretString)), &fields) != nil {
		return secret.Value{}, fault.New(fault.Invalid, "read secret: it is no JSON object")
	}
	text, _ := fields[secretField].(string)
	return secret.New([]byte(text)), nil
}

// awsClient speaks to Moto, which takes any access key.
func awsClient(endpoint string) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{Region: region, BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider(accessKey, accessKey, "")})
}

const (
	region    = "us-east-1"
	accessKey = "demo"
	model     = "claude-haiku-5-5"
	userAgent = "keywright-demo-application"
)

// working is the application at work.
type working struct {
	client      anthropic.Client
	fingerprint string

	mu    sync.Mutex
	out   *json.Encoder
	tally tally
}

func (w *working) say(ready bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.out.Encode(report{Ready: ready, Fingerprint: w.fingerprint, Tally: w.tally}) // a lost reader closes our input too
}

// work makes requests at the rate until ctx ends, and waits for the last answers.
func (w *working) work(ctx context.Context, rate, workers int) {
	jobs := make(chan int)
	var hands sync.WaitGroup
	for range workers {
		hands.Go(func() {
			for n := range jobs {
				w.request(context.WithoutCancel(ctx), n)
			}
		})
	}
	beat, count := time.NewTicker(time.Second/time.Duration(max(1, rate))), time.NewTicker(reportEvery)
	defer beat.Stop()
	defer count.Stop()
	for n := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-count.C:
			w.say(false)
		case <-beat.C:
			select {
			case jobs <- n:
				n++
			case <-ctx.Done():
			}
		}
	}
	close(jobs)
	hands.Wait()
}

// requestTimeout is how long an answer may take.
const requestTimeout = 10 * time.Second

// request makes one request, every fourth of them streamed, and counts how it ended. Nothing is tried again: a failure is a failure.
func (w *working) request(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	params := anthropic.MessageNewParams{
		Model: model, MaxTokens: 64,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(fmt.Sprintf("Where is my order %d?", n)))},
	}
	streamed := n%4 == 3
	var err error
	if streamed {
		err = w.stream(ctx, params)
	} else {
		_, err = w.client.Messages.New(ctx, params)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.tally.Served++
		if streamed {
			w.tally.Streamed++
		}
		return
	}
	if w.tally.Failed == nil {
		w.tally.Failed = map[int]int{}
	}
	w.tally.Failed[statusOf(err)]++
	now := time.Now()
	w.tally.First = cmp.Or(w.tally.First, now)
	w.tally.Last = now
}

// stream reads an answer as it comes; one that does not end as it should is a failure.
func (w *working) stream(ctx context.Context, params anthropic.MessageNewParams) error {
	stream := w.client.Messages.NewStreaming(ctx, params)
	defer func() { _ = stream.Close() }() // what it has to say was said by Err
	var got anthropic.Message
	for stream.Next() {
		if err := got.Accumulate(stream.Current()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if got.StopReason == "" {
		return errors.New("the stream ended early")
	}
	return nil
}

// statusOf gives the status of a refused request, or 0 when there was no answer.
func statusOf(err error) int {
	if refused, ok := errors.AsType[*anthropic.Error](err); ok {
		return refused.StatusCode
	}
	return 0
}

// statuses says in words what failed, such as "401 (3)".
func (t tally) statuses() string {
	var parts []string
	for status := range 600 {
		if n := t.Failed[status]; n > 0 {
			name := fmt.Sprint(status)
			if status == 0 {
				name = "no answer"
			}
			parts = append(parts, fmt.Sprintf("%s (%d)", name, n))
		}
	}
	return strings.Join(parts, ", ")
}
