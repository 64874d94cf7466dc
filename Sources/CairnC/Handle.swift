internal import Cairn

/// What a pointer of the interface stands for: a value that one call makes, others use, and the last one ends.
final class Handle<Value: Sendable>: Sendable {
    private let value: Value
    private let generation = Process.forkGeneration

    private init(_ value: Value) { self.value = value }

    /// A pointer to a new handle, until `end`.
    static func make(_ value: Value) -> OpaquePointer {
        OpaquePointer(Unmanaged.passRetained(Handle(value)).toOpaque())
    }

    /// - Parameter name: that of the argument.
    /// - Throws: `usage` for NULL, and for a handle that is older than the fork that this process began with.
    static func value(of pointer: OpaquePointer?, _ name: String) throws(CairnError) -> Value {
        let handle = at(try pointer.given(name)).takeUnretainedValue()
        guard handle.generation == Process.forkGeneration else {
            throw CairnError(
                .usage, "\(name) was opened before a fork; open the store in the child process itself")
        }
        return handle.value
    }

    /// In the child of a fork it stays: what it holds belongs to the parent.
    static func end(_ pointer: OpaquePointer?) {
        guard let pointer else { return }
        let handle = at(pointer)
        if handle.takeUnretainedValue().generation == Process.forkGeneration { handle.release() }
    }

    private static func at(_ pointer: OpaquePointer) -> Unmanaged<Handle> {
        .fromOpaque(UnsafeRawPointer(pointer))
    }
}
