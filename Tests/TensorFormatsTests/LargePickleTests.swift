import Testing

@testable import TensorFormats

/// A pickle of very many objects, as Python writes them: instances of a class with three attributes.
///
/// It is small unless `CAIRN_TEST_LONG=1` is set, for without optimisation all takes 20 times as long. What the full one takes with
/// it is written down at `PickleLimits`.
struct LargePickleTests {
    @Test func `a pickle of very many objects is read in the time that its length allows`() throws {
        let count = Fuzz.isLong ? 1_000_000 : 50_000
        let bytes = Self.pickle(of: count)
        #expect(bytes.count >= 50 * count)
        let clock = ContinuousClock()
        var tree: TorchTree?
        let time = try clock.measure { tree = try TorchTree(pickle: bytes) }
        print("\(count) objects in \(bytes.count) bytes: read in \(time)")
        let objects = try #require(tree?.root.elements)
        #expect(objects.count == count)
        for index in [0, 1, count / 2, count - 1] {
            #expect(objects[index].className == "framework.Thing")
            #expect(objects[index].attribute("index")?.int == index)
            #expect(objects[index].attribute("name")?.string == "layer.\(String(index).leftPadded)")
            #expect(objects[index].attribute("offset")?.double == Double(index) * 1.5)
        }
        #expect(time < .seconds(count / 1000))
        // And none of them is a tensor.
        let walk = try clock.measure { _ = try TensorWalk(try Unpickler.read(bytes)) }
        #expect(walk < .seconds(count / 500))
    }

    /// In protocol 4, with what Python memoizes.
    static func pickle(of count: Int) -> [UInt8] {
        var memo: UInt32 = 0
        func memoized(_ bytes: [UInt8]) -> [UInt8] {
            memo += 1
            return bytes + [0x94]
        }
        func text(_ text: String) -> [UInt8] { memoized([0x8C, UInt8(text.utf8.count)] + Array(text.utf8)) }
        func get(_ number: UInt32) -> [UInt8] {
            [0x6A] + (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
        }
        var bytes: [UInt8] = [0x80, 4] + memoized([0x5D])
        // The class and the names come once: their places in the memo.
        bytes += text("framework") + text("Thing") + memoized([0x93]) + [0x30]
        let thing = memo - 1
        let names = ["index", "name", "offset"].map { name in
            bytes += text(name) + [0x30]
            return memo - 1
        }
        for start in stride(from: 0, to: count, by: 1000) {
            bytes.append(0x28)
            for index in start..<min(count, start + 1000) {
                bytes += get(thing) + memoized([0x29, 0x81]) + memoized([0x7D]) + [0x28]
                bytes += get(names[0]) + [0x4A] + get(UInt32(index)).dropFirst()
                bytes += get(names[1]) + text("layer." + String(index).leftPadded)
                let bits = (Double(index) * 1.5).bitPattern
                bytes +=
                    get(names[2]) + [0x47] + (0..<8).map { UInt8(truncatingIfNeeded: bits >> (56 - 8 * $0)) }
                bytes += [0x75, 0x62]
            }
            bytes.append(0x65)
        }
        return bytes + [0x2E]
    }
}

extension String {
    fileprivate var leftPadded: String { String(repeating: "0", count: max(0, 7 - count)) + self }
}
