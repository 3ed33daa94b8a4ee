// Command follow prints the articles with a tag, and then each change of them, across restarts of it and of the server.
package main

import (
	"context"
	"fmt"
	"log"

	cable "cable.example/go"
	"cable.example/go/cablev1"
)

func main() {
	client, err := cable.New(cable.Config{Endpoints: []string{"http://127.0.0.1:7190"}})
	if err != nil {
		log.Fatal(err)
	}
	request := &cablev1.WatchRequest{
		Filter: &cablev1.FeedFilter{AnyTags: []string{"tags/russia"}},
		Start:  &cablev1.WatchRequest_Snapshot{Snapshot: true}, AllowReset: true, IncludeBackfill: true,
	}
	options := cable.FeedOptions{Store: cable.FilePosition("russia.position")}
	for message, err := range client.Feed(context.Background(), request, options) {
		if err != nil {
			log.Fatal(err)
		}
		for _, record := range message.GetSnapshot().GetRecords() {
			fmt.Println("holds", cable.RecordName(record), record.GetArticle().GetHeadline())
		}
		for _, change := range message.GetChanges().GetChanges() {
			fmt.Println("changed", cable.ChangeName(change), change.GetUpsert().GetArticle().GetHeadline())
		}
	}
}
