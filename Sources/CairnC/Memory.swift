// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn
internal import Platform

/// What `cairn_map` has mapped, by its address.
private let mapped = Monitor<[UInt: Mapping]>([:])

private struct Mapping: Sendable {
    /// Let go of by hand: where this was mapped before a fork, something else may lie at its address in the child.
    let buffer: Unmanaged<Buffer>
    let generation = Process.forkGeneration
}

@c @implementation
public func cairn_map(
    _ bytes: Int, _ memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> cairn_status {
    memory?.pointee = nil
    return attempt {
        let memory = try memory.given("memory")
        guard bytes > 0, bytes <= Int.max - 4096 else {
            throw CairnError(.usage, "can't map \(UInt(bitPattern: bytes)) bytes; ask for at least 1")
        }
        let buffer = try Buffer(size: (bytes + 4095) & ~4095)
        let address = buffer.bytes.baseAddress!
        mapped.change { $0[UInt(bitPattern: address)] = Mapping(buffer: .passRetained(buffer)) }
        memory.pointee = address
    }
}

@c @implementation
public func cairn_unmap(_ memory: UnsafeMutableRawPointer?, _ bytes: Int) {
    let mapping = mapped.change { $0.removeValue(forKey: UInt(bitPattern: memory)) }
    // Not under the lock: for gigabytes it takes a while.
    if let mapping, mapping.generation == Process.forkGeneration { mapping.buffer.release() }
}

@c @implementation
public func cairn_copy(
    _ count: Int, _ targets: UnsafePointer<UnsafeMutableRawPointer?>?,
    _ sources: UnsafePointer<UnsafeRawPointer?>?, _ bytes: UnsafePointer<Int>?, _ jobs: Int32
) -> cairn_status {
    attempt {
        guard jobs >= 0 else { throw CairnError(.usage, "jobs is \(jobs); give 0 for all processors") }
        if count == 0 { return }
        let copying = try Copying(
            UnsafeBufferPointer(start: try targets.given("targets"), count: count),
            UnsafeBufferPointer(start: try sources.given("sources"), count: count),
            UnsafeBufferPointer(start: try bytes.given("bytes"), count: count))
        try copying.run(jobs: jobs == 0 ? Settings.defaultJobs : Int(jobs))
    }
}
