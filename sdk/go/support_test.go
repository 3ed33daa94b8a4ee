package cable_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	cable "cable.example/go"
	"cable.example/go/cablev1"
)

// testContext ends long after every wait of a test that works.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func article(id, headline string, tags ...string) *cablev1.Article {
	for i, tag := range tags {
		tags[i] = "tags/" + tag
	}
	return &cablev1.Article{Name: "articles/" + id, Headline: headline, Tags: tags}
}

func put(t *testing.T, client *cable.Client, article *cablev1.Article) *cablev1.PutArticleResponse {
	t.Helper()
	response, err := client.PutArticle(testContext(t), &cablev1.PutArticleRequest{Article: article})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func asError(t *testing.T, err error) *cable.Error {
	t.Helper()
	failure, ok := errors.AsType[*cable.Error](err)
	if !ok {
		t.Fatalf("not a *cable.Error: %v", err)
	}
	return failure
}

// follower applies the messages of a feed to a map of headlines and tells what it received.
type follower struct {
	t        *testing.T
	next     func() (*cablev1.WatchResponse, error, bool)
	held     map[string]string
	position *cablev1.Position
}

func follow(t *testing.T, feed iter.Seq2[*cablev1.WatchResponse, error]) *follower {
	t.Helper()
	next, stop := iter.Pull2(feed)
	t.Cleanup(stop)
	return &follower{t: t, next: next, held: map[string]string{}}
}

// receive returns the description of the next message.
func (f *follower) receive() string {
	f.t.Helper()
	message, err, ok := f.next()
	if !ok {
		return "end"
	} else if err != nil {
		return "error " + err.Error()
	}
	f.position = message.Position
	switch event := message.Event.(type) {
	case *cablev1.WatchResponse_Changes:
		var names []string
		for _, change := range event.Changes.Changes {
			name := cable.ChangeName(change)
			if delete(f.held, name); change.GetUpsert() != nil {
				f.held[name] = change.GetUpsert().GetArticle().GetHeadline()
			}
			names = append(names, strings.TrimPrefix(name, "articles/"))
		}
		return "changes " + strings.Join(names, " ")
	case *cablev1.WatchResponse_Snapshot:
		for _, record := range event.Snapshot.Records {
			f.held[cable.RecordName(record)] = record.GetArticle().GetHeadline()
		}
		return fmt.Sprintf("snapshot %d", len(event.Snapshot.Records))
	case *cablev1.WatchResponse_SnapshotEnd:
		return fmt.Sprintf("end %d", event.SnapshotEnd.Count)
	case *cablev1.WatchResponse_Reset_:
		clear(f.held)
		return "reset " + strings.TrimPrefix(event.Reset_.Reason.String(), "FEED_RESET_REASON_")
	}
	return "checkpoint"
}

// until receives messages until one has this description. It skips checkpoints, and fails on anything else.
func (f *follower) until(expected ...string) {
	f.t.Helper()
	for _, description := range expected {
		received := f.receive()
		for received == "checkpoint" && description != received {
			received = f.receive()
		}
		if received != description {
			f.t.Fatalf("received %q instead of %q", received, description)
		}
	}
}

// fresh returns the headlines of a new snapshot.
func fresh(t *testing.T, client *cable.Client, filter *cablev1.FeedFilter) map[string]string {
	t.Helper()
	request := &cablev1.WatchRequest{Filter: filter, Start: &cablev1.WatchRequest_Snapshot{Snapshot: true}}
	follower := follow(t, client.Feed(testContext(t), request, cable.FeedOptions{}))
	for received := ""; !strings.HasPrefix(received, "end"); {
		if received = follower.receive(); strings.HasPrefix(received, "error") {
			t.Fatal(received)
		}
	}
	return follower.held
}

func assertEqual[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func assertSame(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func names(articles []*cablev1.Article) string {
	var all []string
	for _, article := range articles {
		all = append(all, strings.TrimPrefix(article.Name, "articles/"))
	}
	return strings.Join(slices.Sorted(slices.Values(all)), " ")
}
