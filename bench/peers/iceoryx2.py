"""iceoryx2's own wheel, as iceoryx2.rs has it."""
import ctypes
import time

import iceoryx2


class Link:
    def __init__(self, name, server, size):
        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        depth = min(max(2, (1 << 20) // size), 1024)

        def service(direction):
            return (node.service_builder(iceoryx2.ServiceName.new(f"{name}-{direction}"))
                    .publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
                    .max_publishers(1).max_subscribers(1).history_size(0).subscriber_max_buffer_size(depth)
                    .enable_safe_overflow(False).open_or_create())

        there, back = (service("back"), service("there")) if server else (service("there"), service("back"))
        out = (there.publisher_builder().initial_max_slice_len(size)
               .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered).create())
        into = back.subscriber_builder().create()
        while not (there.dynamic_config.number_of_subscribers and back.dynamic_config.number_of_publishers):
            time.sleep(0)  # what is sent before both are there is lost
        self.kept = node, there, back
        memmove, string_at, lack = ctypes.memmove, ctypes.string_at, iceoryx2.LoanError

        def send(message):
            delivered = 0  # it is dropped where the subscriber is there and has not begun to receive
            while not delivered:
                try:
                    sample = out.loan_slice_uninit(size)
                except lack:  # all are on the way
                    continue
                memmove(sample.payload_ptr, message, size)
                delivered = sample.assume_init().send()

        def receive():
            while not (sample := into.receive()):
                pass
            message = string_at(sample.payload_ptr, size)
            sample.delete()
            return message

        self.send, self.receive = send, receive

    def close(self):
        del self.kept, self.send, self.receive
