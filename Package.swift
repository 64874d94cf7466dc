// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

// In a release build, what is tested is optimised, and the tests themselves only have to be built fast.
let tests = strict + [.unsafeFlags(["-Onone"], .when(configuration: .release))]

let package = Package(
    name: "cairn",
    products: [
        .library(name: "Cairn", targets: ["Cairn"]),
        .executable(name: "cairn", targets: ["CairnCLI"]),
        // The C interface. To be used without a toolchain: `swift build -c release --product CairnC -Xswiftc -static-stdlib`
        .library(name: "CairnC", type: .dynamic, targets: ["CairnC"]),
        // For tests alone: loaded before the C library, it makes any call of a program fail, fall short or be
        // its last.
        .library(name: "CFaults", type: .dynamic, targets: ["CFaults"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
    ],
    targets: [
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .target(name: "CLinux"),
        .target(name: "CPlanes"),
        .target(name: "CCopy"),
        .target(name: "CSHA256"),
        .target(
            name: "Platform", dependencies: ["CLinux", "COpenSSL", "CSHA256", "CZstd"], swiftSettings: strict),
        .target(name: "ChunkStore", dependencies: ["Platform", "CLMDB", "CPlanes"], swiftSettings: strict),
        .target(name: "TensorFormats", swiftSettings: strict),
        .target(
            name: "Cairn", dependencies: ["ChunkStore", "Platform", "TensorFormats"], swiftSettings: strict),
        .executableTarget(
            name: "CairnCLI",
            dependencies: ["Cairn", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: strict),
        .target(name: "CCairn"),
        .target(
            name: "CairnC", dependencies: ["CCairn", "CCopy", "Cairn", "Platform"], exclude: ["exports.map"],
            swiftSettings: strict,
            // The functions of cairn.h and nothing else: a process may hold another copy of Swift's runtime.
            linkerSettings: [
                .unsafeFlags([
                    "-Xlinker", "--version-script=\(Context.packageDirectory)/Sources/CairnC/exports.map",
                ])
            ]),
        // For Benchmarks/stages alone: the stages by themselves, and what they are measured beside.
        .target(name: "CLimits", dependencies: ["CLMDB", "CZstd"], path: "Benchmarks/Limits"),
        .executableTarget(
            name: "CairnStages", dependencies: ["ChunkStore", "Platform", "CLimits", "CPlanes"],
            path: "Benchmarks/Stages", swiftSettings: strict),
        .target(name: "CFaults", path: "Tests/Support/CFaults"),
        .testTarget(name: "LayerTests", swiftSettings: tests),
        .testTarget(name: "PlatformTests", dependencies: ["Platform"], swiftSettings: tests),
        .testTarget(
            name: "ChunkStoreTests", dependencies: ["ChunkStore", "Platform"], swiftSettings: tests),
        .testTarget(
            name: "TensorFormatsTests", dependencies: ["TensorFormats"],
            resources: [.copy("Fixtures")], swiftSettings: tests),
        .testTarget(
            name: "CairnTests", dependencies: ["Cairn", "ChunkStore", "Platform", "TensorFormats"],
            swiftSettings: tests),
        .testTarget(
            name: "CLITests",
            dependencies: [
                "CairnCLI", "Cairn", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: tests),
        // Compiles programs of C against the built `libCairnC.so` and runs them, so it links neither.
        .testTarget(name: "CInterfaceTests", exclude: ["Fixtures"], swiftSettings: tests),
        // Runs the built `cairn` under the built `libCFaults.so`, so it links neither.
        .testTarget(name: "WeatherTests", swiftSettings: tests),
    ]
)
