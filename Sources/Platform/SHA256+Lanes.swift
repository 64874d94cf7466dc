internal import CSHA256

extension SHA256Hasher {
    /// The digests of messages, in their order. Where the processor has wide registers, messages of about the same length are hashed
    /// side by side in them, in half the time: OpenSSL has nothing of the kind.
    public func digests(_ messages: [UnsafeRawBufferPointer]) -> [SHA256Digest] {
        let order = messages.indices.sorted { messages[$0].count > messages[$1].count }
        var digests = [SHA256Digest](repeating: .none, count: messages.count)
        for start in stride(from: 0, to: order.count, by: Int(cs_lanes)) {
            let group = order[start..<min(start + Int(cs_lanes), order.count)]
            let longest = messages[group.first!].count
            let total = group.reduce(0) { $0 + messages[$1].count }
            if Double(total) > Double(longest) * Lanes.share {
                let found = Lanes.digests(group.map { messages[$0] })
                for (index, digest) in zip(group, found) { digests[index] = digest }
            } else {
                for index in group { digests[index] = digest(messages[index]) }
            }
        }
        return digests
    }
}

/// SHA-256 of 16 messages at once.
enum Lanes {
    /// How many messages of one length OpenSSL hashes in the time that the lanes take for 16 or less: measured when it is first asked
    /// for, in a fraction of a millisecond, as processors differ in both.
    static let share: Double = {
        let part = 4 << 10
        let bytes = [UInt8](repeating: 0x5a, count: 16 * part)
        return bytes.withUnsafeBytes { bytes in
            let hasher = SHA256Hasher()
            let parts = (0..<16).map { UnsafeRawBufferPointer(rebasing: bytes[$0 * part..<($0 + 1) * part]) }
            let one = time { hasher.digest(bytes) }
            let many = time { digests(parts) }
            return 16 * many / one
        }
    }()

    private static func time<T>(_ body: () -> T) -> Double {
        (0..<4).map { _ in
            let start = Clock.monotonic
            _ = body()
            return Clock.monotonic - start
        }.min()!
    }

    /// - Parameter messages: 1 to 16, the longest first.
    static func digests(_ messages: [UnsafeRawBufferPointer]) -> [SHA256Digest] {
        precondition(1...Int(cs_lanes) ~= messages.count)
        // What is empty may have no address.
        let empty: [UInt8] = [0]
        return empty.withUnsafeBytes { empty in
            let starts = messages.map {
                ($0.baseAddress ?? empty.baseAddress!).assumingMemoryBound(to: UInt8.self) as UnsafePointer?
            }
            return [SHA256Digest](unsafeUninitializedCapacity: messages.count) { digests, count in
                cs_digest(starts, messages.map(\.count), Int32(messages.count), digests.baseAddress!)
                count = messages.count
            }
        }
    }
}
