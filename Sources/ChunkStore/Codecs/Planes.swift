// Numbers of 1, 2, 4 or 8 bytes, and their bytes by place: plane 0 holds the lowest byte of each number, one behind the other.
// What does not fill a last number stays as it is, behind the planes.

/// Elements that are worked on at a time, so that what lies between two loops stays in the nearest cache.
private let blockElements = 512

/// Splits `source` into planes, each number rotated by one bit so that the sign of a float is its lowest bit, and the exponent, which
/// numbers of a tensor have in common, fills its highest byte.
func splitRotated(
    _ source: UnsafeRawBufferPointer, elementSize: Int, into target: UnsafeMutableRawBufferPointer
) {
    switch elementSize {
    case 1: target.copyMemory(from: source)
    case 2: split(source, target, UInt16.self) { rotatedLeft($0) }
    case 4: split(source, target, UInt32.self) { rotatedLeft($0) }
    case 8: split(source, target, UInt64.self) { rotatedLeft($0) }
    default: preconditionFailure("numbers have 1, 2, 4 or 8 bytes")
    }
}

/// The reverse of `splitRotated`.
func mergeRotated(
    _ planes: UnsafeRawBufferPointer, elementSize: Int, into target: UnsafeMutableRawBufferPointer
) {
    switch elementSize {
    case 1: target.copyMemory(from: planes)
    case 2: merge(planes, target, UInt16.self) { value, _ in rotatedRight(value) }
    case 4: merge(planes, target, UInt32.self) { value, _ in rotatedRight(value) }
    case 8: merge(planes, target, UInt64.self) { value, _ in rotatedRight(value) }
    default: preconditionFailure("numbers have 1, 2, 4 or 8 bytes")
    }
}

/// Splits what `source` is more than `base`, number by number, into planes. The differences wrap around, and their sign is the lowest
/// bit, so that small ones of either sign have zeros in all high planes.
func splitDifference(
    _ source: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer, elementSize: Int,
    into target: UnsafeMutableRawBufferPointer
) {
    precondition(base.count == source.count)
    switch elementSize {
    case 1: split(source, base, target, UInt8.self)
    case 2: split(source, base, target, UInt16.self)
    case 4: split(source, base, target, UInt32.self)
    case 8: split(source, base, target, UInt64.self)
    default: preconditionFailure("numbers have 1, 2, 4 or 8 bytes")
    }
}

/// The reverse of `splitDifference`: `target` holds the base, and then the numbers.
func mergeDifference(
    _ planes: UnsafeRawBufferPointer, elementSize: Int, onto target: UnsafeMutableRawBufferPointer
) {
    switch elementSize {
    case 1: merge(planes, target, UInt8.self) { $1 &+ unfolded($0) }
    case 2: merge(planes, target, UInt16.self) { $1 &+ unfolded($0) }
    case 4: merge(planes, target, UInt32.self) { $1 &+ unfolded($0) }
    case 8: merge(planes, target, UInt64.self) { $1 &+ unfolded($0) }
    default: preconditionFailure("numbers have 1, 2, 4 or 8 bytes")
    }
}

private typealias Element = FixedWidthInteger & UnsignedInteger

@inline(__always) private func rotatedLeft<T: Element>(_ value: T) -> T {
    value &<< 1 | value &>> T(truncatingIfNeeded: T.bitWidth - 1)
}

@inline(__always) private func rotatedRight<T: Element>(_ value: T) -> T {
    value &>> 1 | value &<< T(truncatingIfNeeded: T.bitWidth - 1)
}

/// The sign into the lowest bit: 0, -1, 1, -2, 2, ... become 0, 1, 2, 3, 4, ...
@inline(__always) private func folded<T: Element>(_ value: T) -> T {
    value &<< 1 ^ (0 &- value &>> T(truncatingIfNeeded: T.bitWidth - 1))
}

@inline(__always) private func unfolded<T: Element>(_ value: T) -> T { value &>> 1 ^ (0 &- (value & 1)) }

@inline(__always) private func load<T: Element>(_ bytes: UnsafeRawPointer, _ index: Int) -> T {
    bytes.loadUnaligned(fromByteOffset: index &* MemoryLayout<T>.size, as: T.self)
}

@inline(__always) private func store<T: Element>(_ value: T, _ bytes: UnsafeMutableRawPointer, _ index: Int) {
    bytes.storeBytes(of: value, toByteOffset: index &* MemoryLayout<T>.size, as: T.self)
}

/// - Parameter change: what becomes of a number before it is split.
@inline(__always) private func split<T: Element>(
    _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, _: T.Type,
    _ change: (T) -> T
) {
    guard let from = source.baseAddress, let to = target.baseAddress else { return }
    splitBlocks(source, target, T.self) { start, count, block in
        let part = from + start &* MemoryLayout<T>.size
        for index in 0..<count { store(change(load(part, index)), block, index) }
    }
    copyTail(from, to, source.count, T.self)
}

@inline(__always) private func split<T: Element>(
    _ source: UnsafeRawBufferPointer, _ base: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer,
    _: T.Type
) {
    guard let from = source.baseAddress, let old = base.baseAddress, let to = target.baseAddress else {
        return
    }
    splitBlocks(source, target, T.self) { start, count, block in
        let part = from + start &* MemoryLayout<T>.size
        let oldPart = old + start &* MemoryLayout<T>.size
        for index in 0..<count {
            let difference: T = load(part, index) &- load(oldPart, index)
            store(folded(difference), block, index)
        }
    }
    copyTail(from, to, source.count, T.self)
}

/// Splits what `fill` puts into a block: `count` numbers from number `start` on.
@inline(__always) private func splitBlocks<T: Element>(
    _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, _: T.Type,
    _ fill: (_ start: Int, _ count: Int, _ block: UnsafeMutableRawPointer) -> Void
) {
    let size = MemoryLayout<T>.size
    let elements = source.count / size
    withUnsafeTemporaryAllocation(byteCount: blockElements * size, alignment: 64) { buffer in
        let block = buffer.baseAddress!
        var start = 0
        while start < elements {
            let count = min(blockElements, elements - start)
            fill(start, count, block)
            for plane in 0..<size {
                let shift = T(truncatingIfNeeded: plane &* 8)
                let bytes = target.baseAddress! + plane &* elements + start
                for index in 0..<count {
                    let value: T = load(block, index)
                    bytes.storeBytes(
                        of: UInt8(truncatingIfNeeded: value &>> shift), toByteOffset: index, as: UInt8.self)
                }
            }
            start += count
        }
    }
}

/// - Parameter change: the number from the one in the planes and the one that `target` has.
@inline(__always) private func merge<T: Element>(
    _ planes: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, _: T.Type,
    _ change: (T, T) -> T
) {
    guard let from = planes.baseAddress, let to = target.baseAddress else { return }
    let size = MemoryLayout<T>.size
    let elements = planes.count / size
    withUnsafeTemporaryAllocation(byteCount: blockElements * size, alignment: 64) { buffer in
        let block = buffer.baseAddress!
        var start = 0
        while start < elements {
            let count = min(blockElements, elements - start)
            gather(from + start, elements, count, block, T.self)
            let part = to + start &* size
            for index in 0..<count { store(change(load(block, index), load(part, index)), part, index) }
            start += count
        }
    }
    copyTail(from, to, planes.count, T.self)
}

/// Puts `count` numbers together from planes that lie `stride` bytes from each other.
@inline(__always) private func gather<T: Element>(
    _ planes: UnsafeRawPointer, _ stride: Int, _ count: Int, _ block: UnsafeMutableRawPointer, _: T.Type
) {
    let byte = { (plane: Int, index: Int) -> T in
        let value = planes.load(fromByteOffset: plane &* stride &+ index, as: UInt8.self)
        return T(truncatingIfNeeded: value) &<< T(truncatingIfNeeded: plane &* 8)
    }
    switch MemoryLayout<T>.size {
    case 1:
        for index in 0..<count { store(byte(0, index), block, index) }
    case 2:
        for index in 0..<count { store(byte(0, index) | byte(1, index), block, index) }
    case 4:
        for index in 0..<count {
            let low = byte(0, index) | byte(1, index)
            store(low | byte(2, index) | byte(3, index), block, index)
        }
    default:
        for index in 0..<count {
            let low = byte(0, index) | byte(1, index) | byte(2, index) | byte(3, index)
            let high = byte(4, index) | byte(5, index) | byte(6, index) | byte(7, index)
            store(low | high, block, index)
        }
    }
}

/// The bytes that fill no number.
@inline(__always) private func copyTail<T: Element>(
    _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ count: Int, _: T.Type
) {
    let whole = count / MemoryLayout<T>.size * MemoryLayout<T>.size
    if whole < count { (target + whole).copyMemory(from: source + whole, byteCount: count - whole) }
}
