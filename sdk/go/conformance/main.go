// Command conformance drives this module for the conformance suite: commands come as JSON lines on standard input, and
// events go as JSON lines to standard output. It adds no logic of its own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	cable "cable.example/go"
	"cable.example/go/cablev1"
)

// command has the members of all commands.
type command struct {
	Command  string          `json:"command"`
	ID       string          `json:"id"`
	Of       string          `json:"of"`
	Method   string          `json:"method"`
	Request  json.RawMessage `json:"request"`
	Timeout  int64           `json:"timeout_ms"`
	MaxPages int             `json:"max_pages"`

	Endpoints []string `json:"endpoints"`
	Token     string   `json:"token"`
	TokenFile string   `json:"token_file"`

	Filter             json.RawMessage `json:"filter"`
	Start              json.RawMessage `json:"start"`
	Reset              bool            `json:"reset"`
	View               string          `json:"view"`
	IncludeBackfill    bool            `json:"include_backfill"`
	CheckpointInterval int64           `json:"checkpoint_interval_ms"`
	Store              string          `json:"store"`
}

// fields are the members of an event.
type fields map[string]any

// follower is a feed or a mirror.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{}
	mirror *cable.Mirror

	mu     sync.Mutex
	paused chan struct{} // Closed by `resume`; nil if the follower is not paused.
}

type driver struct {
	client    *cable.Client
	output    sync.Mutex
	mu        sync.Mutex
	followers map[string]*follower
}

func main() {
	d := &driver{followers: map[string]*follower{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			d.fail(c.ID, invalid(err))
			continue
		}
		d.run(c)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run starts a command. It does not wait for calls.
func (d *driver) run(c command) {
	switch c.Command {
	case "hello":
		capabilities := []string{"call", "pages", "stream", "follow", "mirror", "token", "token_file", "store_file", "endpoints"}
		d.emit("hello", c.ID, fields{"language": "go", "sdk": "0.1.0", "capabilities": capabilities})
	case "connect":
		d.connect(c)
	case "call":
		go d.call(c)
	case "pages":
		go d.pages(c)
	case "stream":
		go d.stream(c)
	case "follow":
		d.follow(c)
	case "mirror":
		d.mirror(c)
	case "pause", "resume":
		d.pause(c)
	case "state":
		d.state(c)
	case "stop":
		go d.stop(c)
	default:
		d.fail(c.ID, invalid(fmt.Errorf("command %q is not known", c.Command)))
	}
}

func (d *driver) emit(event, id string, members fields) {
	all := fields{"event": event, "id": id}
	maps.Copy(all, members)
	line, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	d.output.Lock()
	defer d.output.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n')) // The runner is gone if that fails; standard input then ends.
}

func (d *driver) fail(id string, err error) { d.emit("error", id, describe(err)) }

func describe(err error) fields {
	failure, ok := errors.AsType[*cable.Error](err)
	if !ok {
		return fields{"code": "INTERNAL", "reason": nil, "field": nil, "retryable": false, "may_have_applied": false, "message": err.Error()}
	}
	var reason, field any
	if failure.Reason != cablev1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		reason = strings.TrimPrefix(failure.Reason.String(), "ERROR_REASON_")
	}
	if failure.Field != "" {
		field = failure.Field
	}
	return fields{
		"code": codeNames[failure.Code], "reason": reason, "field": field, "retryable": failure.Retryable,
		"may_have_applied": failure.MayHaveApplied, "message": failure.Error(),
	}
}

var codeNames = map[codes.Code]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

// invalid is the error of a request that the parser of the module refuses.
func invalid(err error) error {
	return &cable.Error{Code: codes.InvalidArgument, Message: err.Error()}
}

func parse(text json.RawMessage, message proto.Message) error {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	if err := protojson.Unmarshal(text, message); err != nil {
		return invalid(err)
	}
	return nil
}

func toJSON(message proto.Message) json.RawMessage {
	text, err := protojson.Marshal(message)
	if err != nil {
		panic(err)
	}
	return text
}

func (d *driver) connect(c command) {
	config := cable.Config{Endpoints: c.Endpoints, Timeout: time.Duration(c.Timeout) * time.Millisecond}
	if c.Token != "" {
		config.Token = cable.StaticToken(c.Token)
	} else if c.TokenFile != "" {
		config.Token = cable.TokenFile(c.TokenFile)
	}
	client, err := cable.New(config)
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	d.client = client
	d.emit("connected", c.ID, nil)
}

func (d *driver) call(c command) {
	ctx := context.Background()
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Timeout)*time.Millisecond)
		defer cancel()
	}
	var response proto.Message
	var err error
	switch c.Method {
	case "get_article":
		response, err = call(ctx, c, &cablev1.GetArticleRequest{}, func(ctx context.Context, request *cablev1.GetArticleRequest) (*cablev1.GetArticleResponse, error) {
			return d.client.GetArticle(ctx, request)
		})
	case "list_articles":
		response, err = call(ctx, c, &cablev1.ListArticlesRequest{}, func(ctx context.Context, request *cablev1.ListArticlesRequest) (*cablev1.ListArticlesResponse, error) {
			return d.client.ListArticles(ctx, request)
		})
	case "put_article":
		response, err = call(ctx, c, &cablev1.PutArticleRequest{}, func(ctx context.Context, request *cablev1.PutArticleRequest) (*cablev1.PutArticleResponse, error) {
			return d.client.PutArticle(ctx, request)
		})
	case "patch_article":
		response, err = call(ctx, c, &cablev1.PatchArticleRequest{}, func(ctx context.Context, request *cablev1.PatchArticleRequest) (*cablev1.PatchArticleResponse, error) {
			return d.client.PatchArticle(ctx, request)
		})
	case "remove_article":
		response, err = call(ctx, c, &cablev1.RemoveArticleRequest{}, func(ctx context.Context, request *cablev1.RemoveArticleRequest) (*cablev1.RemoveArticleResponse, error) {
			return d.client.RemoveArticle(ctx, request)
		})
	case "put_tag":
		response, err = call(ctx, c, &cablev1.PutTagRequest{}, func(ctx context.Context, request *cablev1.PutTagRequest) (*cablev1.PutTagResponse, error) {
			return d.client.PutTag(ctx, request)
		})
	case "commit":
		response, err = call(ctx, c, &cablev1.CommitRequest{}, func(ctx context.Context, request *cablev1.CommitRequest) (*cablev1.CommitResponse, error) {
			return d.client.Commit(ctx, request)
		})
	case "get_status":
		response, err = call(ctx, c, &cablev1.GetStatusRequest{}, func(ctx context.Context, request *cablev1.GetStatusRequest) (*cablev1.GetStatusResponse, error) {
			return d.client.GetStatus(ctx, request)
		})
	default:
		err = invalid(fmt.Errorf("method %q is not known", c.Method))
	}
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	d.emit("result", c.ID, fields{"response": toJSON(response)})
}

func call[Q, R proto.Message](ctx context.Context, c command, request Q, method func(context.Context, Q) (R, error)) (proto.Message, error) {
	if err := parse(c.Request, request); err != nil {
		return nil, err
	}
	return method(ctx, request)
}

func (d *driver) pages(c command) {
	request := &cablev1.ListArticlesRequest{}
	if err := parse(c.Request, request); err != nil {
		d.fail(c.ID, err)
		return
	}
	count, pages := 0, 0
	for page, err := range cable.Pages(context.Background(), d.client.ListArticles, request) {
		if err != nil {
			d.fail(c.ID, err)
			return
		}
		for _, article := range page.Articles {
			count++
			d.emit("item", c.ID, item(article))
		}
		if pages++; pages == c.MaxPages {
			break
		}
	}
	d.emit("end", c.ID, fields{"count": count})
}

func (d *driver) stream(c command) {
	request := &cablev1.StreamArticlesRequest{}
	if err := parse(c.Request, request); err != nil {
		d.fail(c.ID, err)
		return
	}
	count := 0
	for article, err := range d.client.Articles(context.Background(), request) {
		if err != nil {
			d.fail(c.ID, err)
			return
		}
		count++
		d.emit("item", c.ID, item(article))
	}
	d.emit("end", c.ID, fields{"count": count})
}

// item describes an entity: an article, author, section, tag or collection.
func item(entity interface {
	GetName() string
	GetEtag() string
	GetRevision() int64
}) fields {
	return fields{"name": entity.GetName(), "etag": entity.GetEtag(), "revision": entity.GetRevision()}
}

func recordItem(record *cablev1.Record) fields {
	switch record := record.GetRecord().(type) {
	case *cablev1.Record_Article:
		return item(record.Article)
	case *cablev1.Record_Author:
		return item(record.Author)
	case *cablev1.Record_Section:
		return item(record.Section)
	case *cablev1.Record_Tag:
		return item(record.Tag)
	case *cablev1.Record_Collection:
		return item(record.Collection)
	}
	return fields{"name": "", "etag": "", "revision": 0}
}

// watchRequest returns the request of a feed or a mirror.
func watchRequest(c command) (*cablev1.WatchRequest, error) {
	request := &cablev1.WatchRequest{AllowReset: c.Reset, IncludeBackfill: c.IncludeBackfill}
	if len(c.Filter) > 0 {
		request.Filter = &cablev1.FeedFilter{}
	}
	if err := parse(c.Filter, request.Filter); err != nil {
		return nil, err
	}
	if c.View != "" {
		view, ok := cablev1.ArticleView_value[c.View]
		if !ok {
			return nil, invalid(fmt.Errorf("view %q is not known", c.View))
		}
		request.View = cablev1.ArticleView(view)
	}
	if c.CheckpointInterval > 0 {
		request.CheckpointInterval = durationpb.New(time.Duration(c.CheckpointInterval) * time.Millisecond)
	}
	switch start := strings.Trim(string(c.Start), `"`); start {
	case "", "now":
	case "snapshot":
		request.Start = &cablev1.WatchRequest_Snapshot{Snapshot: true}
	default:
		var after struct{ After json.RawMessage }
		position := &cablev1.Position{}
		if err := json.Unmarshal(c.Start, &after); err != nil {
			return nil, invalid(err)
		} else if err := parse(after.After, position); err != nil {
			return nil, err
		}
		request.Start = &cablev1.WatchRequest_After{After: position}
	}
	return request, nil
}

func (d *driver) add(id string, f *follower) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followers[id] = f
}

func (d *driver) get(id string) (*follower, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.followers[id]; f != nil {
		return f, nil
	}
	return nil, invalid(fmt.Errorf("follower %q is not known", id))
}

func (d *driver) follow(c command) {
	request, err := watchRequest(c)
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	options := cable.FeedOptions{OnRetry: func(err error) { d.emit("retry", c.ID, fields{"error": describe(err)}) }}
	if path, isFile := strings.CutPrefix(c.Store, "file:"); isFile {
		options.Store = cable.FilePosition(path)
	} else if c.Store != "" {
		options.Store = &cable.MemoryPosition{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, done: make(chan struct{})}
	d.add(c.ID, f)
	d.emit("following", c.ID, nil)
	go func() {
		defer close(f.done)
		d.deliver(ctx, c.ID, f, d.client.Feed(ctx, request, options))
	}()
}

func (d *driver) deliver(ctx context.Context, id string, f *follower, feed iter.Seq2[*cablev1.WatchResponse, error]) {
	for message, err := range feed {
		if ctx.Err() != nil { // Stopped.
			return
		} else if err != nil {
			d.fail(id, err)
			return
		}
		switch event := message.Event.(type) {
		case *cablev1.WatchResponse_Changes:
			changes := []fields{}
			for _, change := range event.Changes.Changes {
				changes = append(changes, describeChange(change))
			}
			d.emit("changes", id, fields{"position": toJSON(message.Position), "changes": changes})
		case *cablev1.WatchResponse_Snapshot:
			records := []fields{}
			for _, record := range event.Snapshot.Records {
				records = append(records, recordItem(record))
			}
			d.emit("snapshot", id, fields{"records": records})
		case *cablev1.WatchResponse_SnapshotEnd:
			d.emit("snapshot_end", id, fields{"position": toJSON(message.Position), "count": event.SnapshotEnd.Count})
		case *cablev1.WatchResponse_Checkpoint:
			d.emit("checkpoint", id, fields{"position": toJSON(message.Position), "behind": event.Checkpoint.Behind})
		case *cablev1.WatchResponse_Reset_:
			reason := strings.TrimPrefix(event.Reset_.Reason.String(), "FEED_RESET_REASON_")
			if event.Reset_.Reason == cablev1.FeedResetReason_FEED_RESET_REASON_UNSPECIFIED {
				reason = "SNAPSHOT_BROKEN"
			}
			d.emit("reset", id, fields{"reason": reason})
		}
		f.mu.Lock()
		paused := f.paused
		f.mu.Unlock()
		if paused != nil {
			select {
			case <-paused:
			case <-ctx.Done():
			}
		}
	}
}

func describeChange(change *cablev1.FeedChange) fields {
	described := fields{"revision": change.Revision, "name": cable.ChangeName(change)}
	switch change.Change.(type) {
	case *cablev1.FeedChange_Upsert:
		described["op"], described["etag"] = "upsert", recordItem(change.GetUpsert())["etag"]
	case *cablev1.FeedChange_Left:
		described["op"] = "left"
	case *cablev1.FeedChange_Removed:
		described["op"] = "removed"
	case *cablev1.FeedChange_Unreadable:
		described["op"] = "unreadable"
	}
	return described
}

// pause handles `pause` and `resume`.
func (d *driver) pause(c command) {
	f, err := d.get(c.ID)
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Command == "pause" {
		if f.paused == nil {
			f.paused = make(chan struct{})
		}
		d.emit("paused", c.ID, nil)
		return
	}
	if f.paused != nil {
		close(f.paused)
		f.paused = nil
	}
	d.emit("resumed", c.ID, nil)
}

func (d *driver) mirror(c command) {
	request, err := watchRequest(c)
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, done: make(chan struct{}), mirror: d.client.Mirror(ctx, request, cable.FeedOptions{})}
	d.add(c.ID, f)
	d.emit("following", c.ID, nil)
	go func() {
		defer close(f.done)
		err := f.mirror.Ready(ctx)
		if ctx.Err() == nil && err != nil {
			d.fail(c.ID, err)
		} else if err == nil {
			d.emit("ready", c.ID, nil)
		}
	}()
}

func (d *driver) state(c command) {
	f, err := d.get(c.Of)
	if err == nil && f.mirror == nil {
		err = invalid(fmt.Errorf("%q is not a mirror", c.Of))
	}
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	records, position := f.mirror.Snapshot()
	items := []fields{}
	for _, name := range slices.Sorted(maps.Keys(records)) {
		items = append(items, recordItem(records[name]))
	}
	members := fields{"position": nil, "items": items}
	if position != nil {
		members["position"] = toJSON(position)
	}
	d.emit("state", c.ID, members)
}

func (d *driver) stop(c command) {
	f, err := d.get(c.Of)
	if err != nil {
		d.fail(c.ID, err)
		return
	}
	f.cancel()
	<-f.done
	if f.mirror != nil {
		f.mirror.Close()
	}
	d.emit("stopped", c.ID, nil)
}
