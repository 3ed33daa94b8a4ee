package com.cable.follower;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;

/** The reasons of errors, as ErrorReason in errors.proto lists them. */
public final class Errors {
  private Errors() {}

  /** Returns the reason of an error, such as {@code LOG_CHANGED}, or null if the server stated none. */
  public static String reason(StatusRuntimeException error) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status == null) {
      return null;
    }
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class) && detail.unpack(ErrorInfo.class).getDomain().equals("cable.v1")) {
          return detail.unpack(ErrorInfo.class).getReason();
        }
      }
    } catch (InvalidProtocolBufferException notOfCable) {
      return null;
    }
    return null;
  }
}
