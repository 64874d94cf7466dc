internal import CCairn
internal import Cairn
internal import Glibc

/// Where a call puts its document.
typealias Document = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

/// Makes a call that answers with a document.
func answer(_ document: Document?, _ body: () throws -> JSON) -> cairn_status {
    document?.pointee = nil
    return attempt {
        let document = try document.given("json")
        document.pointee = try handedOut(try body().serialized())
    }
}

/// The same, of a store.
func answer(_ document: Document?, _ store: OpaquePointer?, _ body: (Store) throws -> JSON) -> cairn_status {
    answer(document) { try body(try Handle<Store>.value(of: store, "store")) }
}

/// The bytes in memory that `cairn_free` gives back, ended by a zero byte.
private func handedOut(_ bytes: [UInt8]) throws(CairnError) -> UnsafeMutablePointer<CChar> {
    guard let memory = malloc(bytes.count + 1) else {
        throw CairnError(.system, "not enough memory for a document of \(bytes.count) bytes")
    }
    bytes.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
    memory.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
    return memory.assumingMemoryBound(to: CChar.self)
}
