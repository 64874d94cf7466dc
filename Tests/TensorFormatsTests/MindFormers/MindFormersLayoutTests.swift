import Testing

@testable import TensorFormats

struct MindFormersLayoutTests {
    /// Layouts with what MindSpore Transformers 1.9.0 says of them (tools/python/mindformers_fixtures.py).
    static let examples = try! Fixtures.json("mindformers/layouts.json").array!

    private static func integers(_ json: JSON?) -> [Int] { json!.array!.map { $0.int! } }

    private static func layout(_ json: JSON) throws -> MindFormersLayout {
        let map = json["tensor_map"]!.array!.map { cut -> MindFormersLayout.Cut in
            if let axes = cut.array { return .axes(axes.map { $0.int! }) }
            return cut.int! < 0 ? .none : .axis(cut.int!)
        }
        return try MindFormersLayout(
            deviceMatrix: integers(json["device_matrix"]), tensorMap: map,
            axisNames: json["alias_name"]!.array!.map { $0.stringValue! }, ranks: integers(json["rank_list"]))
    }

    @Test(arguments: examples.indices)
    func `slices are where the library has them`(_ number: Int) throws {
        let example = Self.examples[number]
        let layout = try Self.layout(example["layout"]!)
        let shape = Self.integers(example["shape"]).map { UInt64($0) }
        #expect(layout.slices == Self.integers(example["offsets"]))
        #expect(layout.replicas == Self.integers(example["replicas"]))
        #expect(layout.fragmentations == Self.integers(example["fragmentations"]))
        #expect(
            try layout.sliceShape(of: shape, name: "t") == Self.integers(example["slice"]).map { UInt64($0) })
        for (rank, area) in zip(layout.ranks, example["areas"]!.array!) {
            let expected = area.array!.map { Self.integers($0) }.map { UInt64($0[0])..<UInt64($0[1]) }
            #expect(try layout.area(ofRank: rank, of: shape, name: "t") == expected)
        }
        #expect(try layout.area(ofRank: layout.ranks.max()! + 1, of: shape, name: "t") == nil)
    }

    @Test(arguments: examples.indices)
    func `a mesh and the axes that cut make the layout`(_ number: Int) throws {
        let example = Self.examples[number]
        let layout = try Self.layout(example["layout"]!)
        let cuts = example["cuts"]!.array!.map { cut -> [String] in
            (cut.array ?? [cut]).map { $0.stringValue! }.filter { $0 != "None" }
        }
        let mesh = try DeviceMesh(
            zip(layout.axisNames, layout.deviceMatrix).map { .init(name: $0, size: $1) })
        #expect(try mesh.layout(cuts: cuts, ranks: layout.ranks) == layout)
        #expect(layout.cuts == cuts)
    }

    @Test func `the slices of the ranks tile the tensor`() throws {
        let layout = try DeviceMesh(parsing: "dp=2,pp=3,tp=4").layout(cuts: [["tp", "dp"], [], ["pp"]])
        let shape: [UInt64] = [16, 2, 9]
        var counts = [Int](repeating: 0, count: 16 * 2 * 9)
        for rank in 0..<24 {
            let area = try #require(try layout.area(ofRank: rank, of: shape, name: "t"))
            for a in area[0] {
                for b in area[1] { for c in area[2] { counts[Int((a * 2 + b) * 9 + c)] += 1 } }
            }
        }
        #expect(counts.allSatisfy { $0 == 1 })
        #expect(layout.sliceCount == 24 && layout.replicas == .init(repeating: 0, count: 24))
    }

    @Test func `a tensor map serves for meshes that lack its axes`() throws {
        let cuts = [["tp"], ["cp"]]
        let small = try DeviceMesh(parsing: "dp=4").layout(cuts: cuts)
        #expect(small.tensorMap == [.none, .none] && small.replicas == [0, 1, 2, 3])
        let large = try DeviceMesh(parsing: "tp=2,cp=2").layout(cuts: cuts)
        #expect(large.tensorMap == [.axis(1), .axis(0)] && large.slices == [0, 1, 2, 3])
    }

    @Test func `what does not divide is refused with the tensor's name`() throws {
        let layout = try DeviceMesh(parsing: "dp=2,tp=4").layout(cuts: [[], ["tp"]])
        for shape in [[8, 6], [8], [8, 8, 8]] as [[UInt64]] {
            let error = #expect(throws: TensorFileError.self) {
                try layout.area(ofRank: 0, of: shape, name: "layers.0.weight")
            }
            #expect(error?.code == .invalidLayout && error?.message.contains("\"layers.0.weight\"") == true)
        }
        #expect(throws: TensorFileError.self) { try layout.area(ofSlice: 4, of: [8, 8], name: "t") }
        #expect(throws: TensorFileError.self) { try layout.area(ofSlice: -1, of: [8, 8], name: "t") }
        let interleaved = try MindFormersLayout(
            deviceMatrix: [2, 2], tensorMap: [.axis(0)], isInterleaved: true, axisNames: ["tp", "i"],
            ranks: [0, 1])
        #expect(throws: TensorFileError.self) { try interleaved.area(ofSlice: 0, of: [8], name: "t") }
    }

    @Test(
        arguments: [
            "", "dp", "dp=", "=2", "dp=2,", ",dp=2", "dp=2,,tp=2", "dp=0", "dp=-1", "dp=+1", "dp=2x",
            "dp=1.5",
            "dp=2,dp=2", "d p=2", "dp=99999999999999999999", "dp=2000000", "dp=1024,tp=1025", "dp=2=3", "é=2",
            String(repeating: "a", count: 65) + "=2", (0..<65).map { "a\($0)=1" }.joined(separator: ","),
        ])
    func `what is no mesh is refused with a sentence`(_ text: String) {
        let error = #expect(throws: TensorFileError.self) { try DeviceMesh(parsing: text) }
        #expect(error?.code == .invalidLayout && error?.message.hasSuffix(".") == true)
    }

    @Test func `meshes are read`() throws {
        let mesh = try DeviceMesh(parsing: "dp=2,tp_1=4")
        #expect(
            mesh.axes == [.init(name: "dp", size: 2), .init(name: "tp_1", size: 4)] && mesh.rankCount == 8)
        #expect(throws: TensorFileError.self) { try mesh.layout(cuts: [["dp"], ["dp"]]) }
        #expect(throws: TensorFileError.self) { try mesh.layout(cuts: [["dp"]], ranks: [0, 1, 2]) }
    }

    static let contradictions:
        [(matrix: [Int], map: [MindFormersLayout.Cut], names: [String], ranks: [Int])] = [
            ([], [], [], []), ([0], [], ["a"], []), ([-1], [], ["a"], [0]), ([2], [], [], [0, 1]),
            ([2], [], ["a"], [0]), ([2], [], ["a"], [0, 0]), ([2], [], ["a"], [0, -1]),
            ([2], [], ["a"], [0, 1 << 40]),
            ([2], [.axis(1)], ["a"], [0, 1]), ([2], [.axis(-2)], ["a"], [0, 1]),
            ([2], [.axis(0), .axis(0)], ["a"], [0, 1]), ([2], [.axes([0, 0])], ["a"], [0, 1]),
            ([1 << 40, 1 << 40], [], ["a", "b"], [0]),
            (.init(repeating: 1, count: 65), [], .init(repeating: "a", count: 65), [0]),
            ([1], .init(repeating: .none, count: 65), ["a"], [0]),
        ]

    @Test(arguments: contradictions.indices)
    func `a layout that contradicts itself is refused`(_ number: Int) {
        let (matrix, map, names, ranks) = Self.contradictions[number]
        #expect(throws: TensorFileError.self) {
            try MindFormersLayout(deviceMatrix: matrix, tensorMap: map, axisNames: names, ranks: ranks)
        }
    }
}
