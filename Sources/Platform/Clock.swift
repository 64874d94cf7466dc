import Glibc

public enum Clock {
    /// Nanoseconds since 1970 UTC.
    public static var now: Int64 { read(CLOCK_REALTIME) }

    /// Seconds on a clock that only goes forward.
    public static var monotonic: Double { Double(read(CLOCK_MONOTONIC)) / 1e9 }

    /// Lets this thread rest.
    public static func sleep(seconds: Double) {
        var time = timespec(tv_sec: Int(seconds), tv_nsec: Int((seconds - seconds.rounded(.down)) * 1e9))
        nanosleep(&time, nil)
    }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
