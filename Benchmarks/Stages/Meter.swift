import Glibc
import Platform

/// What one thread does again and again.
protocol Work: AnyObject {
    /// Does it once. Returns the bytes that it went through.
    func step() throws -> Int
}

/// Says how fast work is done, as `openssl speed` does: bytes for each second of the processor, summed over the threads. So what else
/// runs on the machine matters little, and what a thread waits for is not counted: none of the stages that are measured so waits.
enum Meter {
    private static let batch = 8

    /// - Returns: bytes a second.
    static func rate(
        threads: Int, seconds: Double, _ make: @escaping @Sendable () throws -> any Work
    ) throws -> Double {
        let total = Monitor(0.0)
        let ready = Monitor(0)
        try WorkerPool.shared.run(threads) { _ in
            let work = Result { () throws -> any Work in
                let work = try make()
                for _ in 0..<batch { _ = try work.step() }
                return work
            }
            // All begin together, whatever became of them.
            ready.change { $0 += 1 }
            let _: Void = ready.wait { $0 == threads ? () : nil }
            let running = try work.get()
            let start = processorTime
            var bytes = 0
            var elapsed = 0.0
            while elapsed < seconds {
                for _ in 0..<batch { bytes += try running.step() }
                elapsed = processorTime - start
            }
            let rate = Double(bytes) / elapsed
            total.change { $0 += rate }
        }
        return total.change { $0 }
    }

    /// Seconds that this thread has had a processor.
    private static var processorTime: Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
