package com.cable.follower;

import com.cable.v1.ArticleView;
import com.cable.v1.EntityKind;
import com.cable.v1.FeedChange;
import com.cable.v1.FeedFilter;
import com.cable.v1.FeedServiceGrpc;
import com.cable.v1.Position;
import com.cable.v1.Record;
import com.cable.v1.WatchRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.Base64;
import java.util.List;

/**
 * Receives changes by the follower or by bare stubs, for sdk/conformance/throughput: {@code Throughput stub|sdk ADDRESS
 * POSITION COUNT}.
 */
public final class Throughput {
  private Throughput() {}

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(arguments[1]).usePlaintext().maxInboundMessageSize(64 << 20).build();
    WatchRequest request =
        WatchRequest.newBuilder()
            .setFilter(FeedFilter.newBuilder().addKinds(EntityKind.ENTITY_KIND_ARTICLE))
            .setView(ArticleView.ARTICLE_VIEW_FULL)
            .setAfter(Position.parseFrom(Base64.getDecoder().decode(arguments[2])))
            .setIncludeBackfill(true)
            .build();
    int count = Integer.parseInt(arguments[3]);
    if (arguments[0].equals("stub")) {
      int received = 0;
      var messages = FeedServiceGrpc.newBlockingStub(channel).watch(request);
      while (received < count) {
        received += messages.next().getChanges().getChangesCount();
      }
      System.exit(0);
    }
    Follower.Handler handler =
        new Follower.Handler() {
          private int received;

          @Override
          public void snapshot(List<Record> records, Position position) {}

          @Override
          public void changes(List<FeedChange> changes, Position position) {
            received += changes.size();
            if (received >= count) {
              System.exit(0);
            }
          }
        };
    new Follower(List.of(channel), request, 10_000, null, handler).run();
  }
}
