package cable_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	cable "cable.example/go"
	"cable.example/go/cabletest"
	"cable.example/go/cablev1"
)

// storm is a request for the articles with the tag storm, with a checkpoint each second.
func storm() *cablev1.WatchRequest {
	return &cablev1.WatchRequest{
		Filter:             &cablev1.FeedFilter{AnyTags: []string{"tags/storm"}},
		CheckpointInterval: durationpb.New(time.Second),
	}
}

func snapshot(request *cablev1.WatchRequest) *cablev1.WatchRequest {
	request.Start = &cablev1.WatchRequest_Snapshot{Snapshot: true}
	return request
}

func TestAFeedDeliversChangesFromNowOn(t *testing.T) {
	client := cabletest.Start(t).Client()
	put(t, client, article("before", "Before", "storm"))
	feed := follow(t, client.Feed(testContext(t), storm(), cable.FeedOptions{}))
	feed.until("checkpoint")
	put(t, client, article("a", "A", "storm"))
	put(t, client, article("other", "Other"))
	put(t, client, article("a", "A again", "flood"))
	feed.until("changes a", "changes a")
	assertEqual(t, len(feed.held), 0)
}

func TestAFeedSurvivesKillsOfTheNodeBetweenChanges(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	put(t, client, article("a", "A", "storm"))
	retries := 0
	options := cable.FeedOptions{OnRetry: func(error) { retries++ }}
	feed := follow(t, client.Feed(testContext(t), snapshot(storm()), options))
	feed.until("snapshot 1", "end 1")
	for i := range 3 {
		put(t, client, article("a", fmt.Sprintf("A %d", i), "storm"))
		feed.until("changes a")
		server.Kill()
		server.Restart()
	}
	put(t, client, article("b", "B", "storm"))
	feed.until("changes b")
	assertSame(t, feed.held, fresh(t, client, storm().Filter))
	assertEqual(t, retries > 0, true)
}

func TestAFeedGoesToTheNextEndpointWhenANodeIsSilent(t *testing.T) {
	// The endpoints are two addresses of one node: a proxy, which the test stops, and the node itself.
	server := cabletest.Start(t)
	silent := cabletest.Start(t)
	client := server.Client()
	feedClient := server.ClientWith(cable.Config{Endpoints: []string{silent.Endpoint(), server.Endpoint()}, Timeout: 2 * time.Second})
	silent.Signal(syscall.SIGSTOP)
	put(t, client, article("a", "A", "storm"))
	for range 4 { // Whichever endpoint comes first.
		feed := follow(t, feedClient.Feed(testContext(t), snapshot(storm()), cable.FeedOptions{}))
		feed.until("snapshot 1", "end 1")
	}
}

func TestAHalfOpenFeedReconnectsAfterMissedCheckpoints(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	put(t, client, article("a", "A", "storm"))
	silences := make(chan error, 10)
	options := cable.FeedOptions{OnRetry: func(err error) { silences <- err }}
	feed := follow(t, server.Client().Feed(testContext(t), storm(), options))
	feed.until("checkpoint")
	server.Signal(syscall.SIGSTOP)
	received := make(chan string)
	go func() { received <- feed.receive() }()
	for { // Checkpoints that were sent before the stop come first.
		select {
		case <-received:
			go func() { received <- feed.receive() }()
			continue
		case err := <-silences:
			assertEqual(t, asError(t, err).Code, codes.Unavailable)
			assertEqual(t, strings.Contains(err.Error(), "no response in time"), true)
		}
		break
	}
	server.Signal(syscall.SIGCONT)
	put(t, client, article("b", "B", "storm"))
	if first := <-received; first != "changes b" {
		feed.until("changes b")
	}
}

func TestAPositionIsSavedAfterItsChangesWereApplied(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx := testContext(t)
	store := cable.FilePosition(filepath.Join(t.TempDir(), "position"))
	put(t, client, article("a", "A", "storm"))
	for message, err := range client.Feed(ctx, snapshot(storm()), cable.FeedOptions{Store: store}) {
		if err != nil {
			t.Fatal(err)
		}
		saved, err := store.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if message.GetSnapshotEnd() != nil {
			assertEqual(t, saved == nil, true)
			put(t, client, article("b", "B", "storm"))
		}
		if message.GetChanges() != nil {
			assertEqual(t, saved.GetRevision() < message.Position.Revision, true)
			break // Not applied.
		}
	}
	feed := follow(t, client.Feed(ctx, snapshot(storm()), cable.FeedOptions{Store: store}))
	feed.until("changes b")
	put(t, client, article("c", "C", "storm"))
	feed.until("changes c", "checkpoint", "checkpoint")
	last, err := store.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	assertEqual(t, last.Revision, feed.position.Revision)
	feed = follow(t, client.Feed(ctx, storm(), cable.FeedOptions{Store: store}))
	put(t, client, article("d", "D", "storm"))
	feed.until("changes d")
}

func TestAPositionThatCannotBeSavedEndsTheFeed(t *testing.T) {
	client := cabletest.Start(t).Client()
	store := cable.FilePosition(filepath.Join(t.TempDir(), "none", "position"))
	feed := follow(t, client.Feed(testContext(t), storm(), cable.FeedOptions{Store: store}))
	var received string
	for received = feed.receive(); received == "checkpoint"; received = feed.receive() {
	}
	assertEqual(t, strings.Contains(received, "could not be saved"), true)
	assertEqual(t, feed.receive(), "end")
}

func TestAPositionFileIsWholeOrAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	store, ctx := cable.FilePosition(path), testContext(t)
	none, err := store.Load(ctx)
	assertEqual(t, none == nil && err == nil, true)
	position := &cablev1.Position{LogId: "0123abcd", Revision: 7, Chain: []byte{0, 255}}
	for range 2 {
		if err := store.Save(ctx, position); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := store.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	assertEqual(t, loaded.String(), position.String())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for length := range whole {
		if err := os.WriteFile(path, whole[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Load(ctx); err == nil {
			t.Fatalf("%q was accepted", whole[:length])
		}
	}
	for _, incomplete := range []string{"{}", "null", `{"logId": "0123abcd"}`, `{"revision": "7"}`} {
		if err := os.WriteFile(path, []byte(incomplete), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Load(ctx)
		if err == nil || !strings.HasPrefix(err.Error(), path) || !strings.Contains(err.Error(), "delete it") {
			t.Fatalf("%s: %v", incomplete, err)
		}
	}
}

func TestAnotherHistoryEndsTheFeedOrResetsIt(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	ctx := testContext(t)
	put(t, client, article("a", "A", "storm"))
	server.Run("backup", "--data", "store", "--to", "backup")
	strict := follow(t, client.Feed(ctx, snapshot(storm()), cable.FeedOptions{}))
	strict.until("snapshot 1", "end 1")
	request := snapshot(storm())
	request.AllowReset = true
	lenient := follow(t, client.Feed(ctx, request, cable.FeedOptions{}))
	lenient.until("snapshot 1", "end 1")
	put(t, client, article("lost", "Lost", "storm"))
	strict.until("changes lost")
	lenient.until("changes lost")
	server.Stop()
	if err := os.RemoveAll(filepath.Join(server.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	server.Run("restore", "--from", "backup", "--to", "store")
	server.Restart()
	lenient.until("reset LOG_CHANGED", "snapshot 1", "end 1")
	assertSame(t, lenient.held, map[string]string{"articles/a": "A"})
	var received string
	for received = strict.receive(); received == "checkpoint"; received = strict.receive() {
	}
	assertEqual(t, strings.HasSuffix(received, "(LOG_CHANGED)"), true)
	assertEqual(t, strict.receive(), "end")
}

func TestARefusedRequestEndsTheFeed(t *testing.T) {
	client := cabletest.Start(t).Client()
	request := &cablev1.WatchRequest{Filter: &cablev1.FeedFilter{AnyTags: []string{"Storm!"}}}
	for _, err := range client.Feed(testContext(t), request, cable.FeedOptions{}) {
		assertEqual(t, asError(t, err).Field, "filter.any_tags[0]")
	}
}

func TestAFeedEndsWithItsContext(t *testing.T) {
	client := cabletest.Start(t).Client()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	count := 0
	for _, err := range client.Feed(ctx, storm(), cable.FeedOptions{}) {
		if count++; err != nil {
			assertEqual(t, errors.Is(err, context.Canceled), true)
			assertEqual(t, asError(t, err).Code, codes.Canceled)
		}
		cancel()
	}
	assertEqual(t, count, 2)
}

func TestAMirrorEqualsASnapshot(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	ctx := testContext(t)
	put(t, client, article("a", "A", "storm"))
	mirror := client.Mirror(ctx, storm(), cable.FeedOptions{})
	if err := mirror.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	assertEqual(t, mirror.Get("articles/a").GetArticle().GetHeadline(), "A")
	changes := mirror.Changes(ctx)
	for i := range 20 {
		put(t, client, article(fmt.Sprintf("a%d", i%7), fmt.Sprintf("Headline %d", i), "storm", "sea"))
		if i == 10 {
			server.Kill()
			server.Restart()
		}
	}
	put(t, client, article("a3", "No storm"))
	remove := &cablev1.RemoveArticleRequest{Name: "articles/a4", Reason: cablev1.RemovalReason_REMOVAL_REASON_DELETED}
	removed, err := client.RemoveArticle(ctx, remove)
	if err != nil {
		t.Fatal(err)
	}
	for position, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		if position.Revision >= removed.Position.Revision {
			break
		}
	}
	records, position := mirror.Snapshot()
	held := map[string]string{}
	for name, record := range records {
		held[name] = record.GetArticle().GetHeadline()
	}
	assertSame(t, held, fresh(t, client, storm().Filter))
	assertEqual(t, position.Revision >= removed.Position.Revision, true)
	assertEqual(t, names(mirror.Tagged("tags/sea")), "a0 a1 a2 a5 a6")
	assertEqual(t, mirror.Lag() < 10*time.Second, true)
	mirror.Close()
	assertEqual(t, errors.Is(mirror.Ready(ctx), context.Canceled) || mirror.Ready(ctx) == nil, true)
}

// consumers returns the revisions of the consumers that `cable consumer ls` shows, by name.
func consumers(t *testing.T, server *cabletest.Server) map[string]int64 {
	t.Helper()
	revisions := map[string]int64{}
	for line := range strings.Lines(server.Run("consumer", "ls", "--endpoint", server.Endpoint(), "-o", "jsonl")) {
		var consumer cablev1.Consumer
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(line), &consumer); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		revisions[consumer.Consumer] = consumer.Position.Revision
	}
	return revisions
}

func TestTheNodeStoresThePositionOfAConsumer(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	put(t, client, article("a", "A", "storm"))
	request := snapshot(storm())
	request.Consumer = "search"
	first, stop := context.WithCancel(testContext(t))
	feed := follow(t, client.Feed(first, request, cable.FeedOptions{}))
	feed.until("snapshot 1", "end 1", "checkpoint")
	applied := feed.position.Revision
	put(t, client, article("b", "B", "storm"))
	feed.until("changes b")
	stop()
	_, _, _ = feed.next() // Now `b` is applied, and the feed ends with its context.
	assertEqual(t, consumers(t, server)["search"], feed.position.Revision)
	assertEqual(t, feed.position.Revision > applied, true)

	// Another program of the same name: no snapshot, only what came since.
	put(t, client, article("c", "C", "storm"))
	var retried atomic.Int64
	again := follow(t, client.Feed(testContext(t), request, cable.FeedOptions{OnRetry: func(error) { retried.Add(1) }}))
	again.until("changes c")
	server.Kill() // The acknowledgement of `c` fails, and is repeated.
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		for retried.Load() == 0 && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		server.Restart()
	}()
	again.until("checkpoint", "checkpoint")
	<-restarted
	for consumers(t, server)["search"] < again.position.Revision {
		again.until("checkpoint")
	}
}

func TestAMessageAtWhichTheLoopBreaksIsNotAcknowledged(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	before := put(t, client, article("before", "Before")).Result.Revision
	request := storm()
	request.Consumer = "purger"
	for _, err := range client.Feed(testContext(t), request, cable.FeedOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		break // At the first checkpoint: the node has the position at which the consumer began.
	}
	put(t, client, article("a", "A", "storm"))
	for range 2 {
		for message, err := range client.Feed(testContext(t), request, cable.FeedOptions{}) {
			if err != nil {
				t.Fatal(err)
			} else if message.GetChanges() != nil {
				assertEqual(t, cable.ChangeName(message.GetChanges().Changes[0]), "articles/a")
				break
			}
		}
	}
	assertEqual(t, consumers(t, server)["purger"], before)
}

func TestAMirrorAcknowledgesAsAConsumer(t *testing.T) {
	server := cabletest.Start(t)
	client := server.Client()
	put(t, client, article("a", "A", "storm"))
	request := storm()
	request.Consumer = "copy"
	for _, expected := range []string{"a b", "a b c"} { // The second one starts with a snapshot, as each mirror does.
		mirror := client.Mirror(testContext(t), request, cable.FeedOptions{})
		if err := mirror.Ready(testContext(t)); err != nil {
			t.Fatal(err)
		}
		id := expected[len(expected)-1:]
		written := put(t, client, article(id, id, "storm")).Result.Revision
		for ctx := testContext(t); consumers(t, server)["copy"] < written; time.Sleep(20 * time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("the mirror has not acknowledged %d: %v", written, consumers(t, server))
			}
		}
		assertEqual(t, names(mirror.Tagged("tags/storm")), expected)
		mirror.Close()
	}
}

func TestAConsumerThatTheNodeRefusesEndsTheFeed(t *testing.T) {
	client := cabletest.Start(t).Client()
	request := storm()
	request.Consumer = "not a name"
	for _, err := range client.Feed(testContext(t), request, cable.FeedOptions{}) {
		assertEqual(t, asError(t, err).Field, "consumer")
	}
}
