// Command throughput receives changes by the client or by bare stubs, for sdk/conformance/throughput:
//
//	throughput stub|sdk ADDRESS POSITION COUNT
package main

import (
	"context"
	"encoding/base64"
	"log"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	cable "cable.example/go"
	"cable.example/go/cablev1"
)

func main() {
	mode, address := os.Args[1], os.Args[2]
	after := &cablev1.Position{}
	encoded, err := base64.StdEncoding.DecodeString(os.Args[3])
	check(err)
	check(proto.Unmarshal(encoded, after))
	count, err := strconv.Atoi(os.Args[4])
	check(err)
	request := &cablev1.WatchRequest{
		Filter: &cablev1.FeedFilter{Kinds: []cablev1.EntityKind{cablev1.EntityKind_ENTITY_KIND_ARTICLE}},
		View:   cablev1.ArticleView_ARTICLE_VIEW_FULL, Start: &cablev1.WatchRequest_After{After: after},
		IncludeBackfill: true,
	}
	if mode == "stub" {
		stub(address, request, count)
	} else {
		sdk(address, request, count)
	}
}

func stub(address string, request *cablev1.WatchRequest, count int) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	check(err)
	stream, err := cablev1.NewFeedServiceClient(connection).Watch(context.Background(), request)
	check(err)
	for received := 0; received < count; {
		message, err := stream.Recv()
		check(err)
		received += len(message.GetChanges().GetChanges())
	}
}

func sdk(address string, request *cablev1.WatchRequest, count int) {
	client, err := cable.New(cable.Config{Endpoints: []string{"http://" + address}})
	check(err)
	received := 0
	for message, err := range client.Feed(context.Background(), request, cable.FeedOptions{}) {
		check(err)
		if received += len(message.GetChanges().GetChanges()); received >= count {
			return
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
