package com.cable.follower;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Optional;

/** The details of errors: the reasons that errors.proto lists, the invalid field, and the delay before a retry. */
public final class Errors {
  private Errors() {}

  /** Returns the reason of an error, such as {@code LOG_CHANGED}, or null if the server stated none. */
  public static String reason(StatusRuntimeException error) {
    Optional<ErrorInfo> info = detail(error, ErrorInfo.class).filter(found -> found.getDomain().equals("cable.v1"));
    return info.map(ErrorInfo::getReason).orElse(null);
  }

  /** Returns the first invalid field of the request, or null. */
  public static String field(StatusRuntimeException error) {
    Optional<BadRequest> bad = detail(error, BadRequest.class).filter(found -> found.getFieldViolationsCount() > 0);
    return bad.map(found -> found.getFieldViolations(0).getField()).orElse(null);
  }

  /** Returns the milliseconds to wait before a retry, or 0. */
  public static long retryMs(StatusRuntimeException error) {
    return detail(error, RetryInfo.class).map(retry -> Durations.toMillis(retry.getRetryDelay())).orElse(0L);
  }

  private static <T extends Message> Optional<T> detail(StatusRuntimeException error, Class<T> kind) {
    Status status = StatusProto.fromThrowable(error);
    try {
      for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
        if (detail.is(kind)) {
          return Optional.of(detail.unpack(kind));
        }
      }
    } catch (InvalidProtocolBufferException notOfCable) {
      return Optional.empty();
    }
    return Optional.empty();
  }
}
