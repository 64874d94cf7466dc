internal import CCairn
internal import Cairn
internal import Synchronization

/// The caller's `cairn_control`. Other threads use it meanwhile, so that each field is an atomic of its size here.
struct Control: @unchecked Sendable {
    // Unchecked: the caller keeps the memory until the call returns, and every access is atomic.
    private let address: UnsafeMutablePointer<cairn_control>?

    init(_ address: UnsafeMutablePointer<cairn_control>?) {
        self.address = address
        report(done: 0, of: 0)
    }

    var isCancelled: Bool {
        guard let address else { return false }
        return Self.atomic(address, \.cancel).pointee.load(ordering: .relaxed) != 0
    }

    func report(done: UInt64, of total: UInt64) {
        guard let address else { return }
        Self.atomic(address, \.total_bytes).pointee.store(total, ordering: .relaxed)
        Self.atomic(address, \.done_bytes).pointee.store(done, ordering: .relaxed)
    }

    /// What the library is to ask and to tell.
    var progress: Progress {
        guard address != nil else { return .silent }
        return Progress(isInterrupted: { isCancelled }) { snapshot in
            if let snapshot { report(done: snapshot.doneBytes, of: snapshot.totalBytes) }
        }
    }

    /// An `Atomic` is laid out as the number that it holds.
    private static func atomic<T: AtomicRepresentable>(
        _ address: UnsafeMutablePointer<cairn_control>, _ field: KeyPath<cairn_control, T>
    ) -> UnsafePointer<Atomic<T>> {
        let offset = MemoryLayout<cairn_control>.offset(of: field)!
        return (UnsafeRawPointer(address) + offset).assumingMemoryBound(to: Atomic<T>.self)
    }
}
