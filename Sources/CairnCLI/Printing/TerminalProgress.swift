import Cairn
import Synchronization

/// Progress as one line on standard error that writes over itself.
enum TerminalProgress {
    private static let clear = "\r\u{1B}[K"
    /// Whether there is a line of ours: what others have written there is not cleared.
    private static let isShown = Atomic<Bool>(false)

    /// Progress that stops at Ctrl-C, and shows itself where standard error is a terminal.
    static func make(quiet: Bool) -> Progress {
        let shows = !quiet && Terminal.isTerminal(.error) && Process.environment("TERM") != "dumb"
        guard shows else { return Progress(isInterrupted: { Interruption.isRequested }) }
        return Progress(isInterrupted: { Interruption.isRequested }) { snapshot in
            guard let snapshot else {
                if isShown.exchange(false, ordering: .relaxed) { write(clear) }
                return
            }
            // What is done within a second needs no line.
            guard snapshot.seconds >= 1 else { return }
            isShown.store(true, ordering: .relaxed)
            let width = Terminal.width(.error) ?? 80
            write(clear + line(snapshot).shortened(to: width - 1, .end))
        }
    }

    /// `saving  42 %  1.2 GiB of 2.9 GiB  1.1 GiB/s  2 s left`; without a total only what is known.
    static func line(_ snapshot: Progress.Snapshot) -> String {
        var parts = [snapshot.phase.printable]
        let done = snapshot.doneBytes
        let total = snapshot.totalBytes
        if total > 0 {
            parts.append("\(min(100, Int(100 * Double(done) / Double(total)))) %")
            parts.append("\(Units.size(done)) of \(Units.size(total))")
        } else {
            parts.append(Units.size(done))
        }
        if let rate = Units.rate(done, seconds: snapshot.seconds) { parts.append(rate) }
        if total > done, done > 0 { parts.append(timeLeft(snapshot) + " left") }
        return parts.joined(separator: "  ")
    }

    private static func timeLeft(_ snapshot: Progress.Snapshot) -> String {
        let seconds =
            snapshot.seconds * Double(snapshot.totalBytes - snapshot.doneBytes) / Double(snapshot.doneBytes)
        return seconds < 60 ? "\(Int(seconds.rounded(.up))) s" : Units.duration(seconds)
    }

    private static func write(_ text: String) { _ = try? Terminal.write([UInt8](text.utf8), to: .error) }
}
