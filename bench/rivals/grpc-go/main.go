// Command grpc-go is a yardstick for the measurements of Cable: GetArticle from a map, as grpc-go serves it.
//
// With -codec proto each call encodes its response, as grpc-go does by default; with -codec encoded the responses were
// encoded at the start and a codec hands them over as they are.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"cable/bench/grpc-go/cable/v1"
)

// content has the responses of the server, by name. One of the two maps is filled.
type content struct {
	messages map[string]*cablev1.Article
	encoded  map[string]encoded
}

// encoded is a response as it goes over the wire.
type encoded []byte

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen at")
	file := flag.String("file", "", "file of articles, each behind its length as a varint")
	codec := flag.String("codec", "proto", "proto: encode at each call; encoded: once, at the start")
	certificate := flag.String("certificate", "", "file of the certificate; if unset, without TLS")
	key := flag.String("key", "", "file of the private key of the certificate")
	flag.Parse()
	if err := run(*listen, *file, *codec, *certificate, *key); err != nil {
		log.Fatal(err)
	}
}

func run(listen, file, codec, certificate, key string) error {
	articles, err := read(file)
	if err != nil {
		return err
	}
	content := content{messages: map[string]*cablev1.Article{}, encoded: map[string]encoded{}}
	var options []grpc.ServerOption
	switch codec {
	case "proto":
		for _, article := range articles {
			content.messages[article.GetName()] = article
		}
	case "encoded":
		for _, article := range articles {
			response, err := proto.Marshal(&cablev1.GetArticleResponse{Article: article})
			if err != nil {
				return err
			}
			content.encoded[article.GetName()] = response
		}
		options = append(options, grpc.ForceServerCodecV2(passing{encoding.GetCodecV2(encodingproto.Name)}))
	default:
		return fmt.Errorf("-codec: %q is neither proto nor encoded", codec)
	}
	if certificate != "" {
		tls, err := credentials.NewServerTLSFromFile(certificate, key)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(tls))
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&service, &content)
	return server.Serve(listener)
}

func read(file string) ([]*cablev1.Article, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	reader := bufio.NewReader(opened)
	var articles []*cablev1.Article
	for {
		length, err := binary.ReadUvarint(reader)
		if errors.Is(err, io.EOF) {
			return articles, nil
		}
		if err != nil {
			return nil, err
		}
		bytes := make([]byte, length)
		if _, err := io.ReadFull(reader, bytes); err != nil {
			return nil, err
		}
		article := new(cablev1.Article)
		if err := proto.Unmarshal(bytes, article); err != nil {
			return nil, err
		}
		articles = append(articles, article)
	}
}

// service is described by hand because the generated one returns messages only.
var service = grpc.ServiceDesc{
	ServiceName: "cable.v1.ContentService",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "GetArticle", Handler: getArticle}},
}

func getArticle(
	server any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor,
) (any, error) {
	request := new(cablev1.GetArticleRequest)
	if err := decode(request); err != nil {
		return nil, err
	}
	content := server.(*content)
	if response, ok := content.encoded[request.GetName()]; ok {
		return response, nil
	}
	if article, ok := content.messages[request.GetName()]; ok {
		return &cablev1.GetArticleResponse{Article: article}, nil
	}
	return nil, status.Errorf(codes.NotFound, "%s: not found", request.GetName())
}

// passing is a codec that hands encoded responses over and leaves the rest to another.
type passing struct {
	encoding.CodecV2
}

func (codec passing) Marshal(message any) (mem.BufferSlice, error) {
	if response, ok := message.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(response)}, nil
	}
	return codec.CodecV2.Marshal(message)
}
