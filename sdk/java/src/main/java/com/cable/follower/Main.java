package com.cable.follower;

import com.cable.v1.FeedChange;
import com.cable.v1.FeedFilter;
import com.cable.v1.Position;
import com.cable.v1.Record;
import com.cable.v1.WatchRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.nio.file.Path;
import java.util.List;

/** Prints the changes of a tag: {@code Main ADDRESS TAG FILE}. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().maxInboundMessageSize(64 << 20).build();
    WatchRequest request =
        WatchRequest.newBuilder()
            .setFilter(FeedFilter.newBuilder().addAnyTags(arguments[1]))
            .setSnapshot(true)
            .setAllowReset(true)
            .setIncludeBackfill(true)
            .build();
    Follower.Handler handler =
        new Follower.Handler() {
          @Override
          public void snapshot(List<Record> records, Position position) {
            records.forEach(record -> System.out.println("found " + record.getArticle().getName()));
          }

          @Override
          public void changes(List<FeedChange> changes, Position position) {
            for (FeedChange change : changes) {
              System.out.println(change.getChangeCase() + " at revision " + change.getRevision());
            }
          }
        };
    new Follower(List.of(channel), request, 10_000, Path.of(arguments[2]), handler).run();
  }
}
