import Testing

@testable import TensorFormats

/// What layouts ask of the real checkpoints, whose frameworks are not there.
struct TorchTreeSampleTests {
    private func tree(_ path: String) throws -> TorchTree {
        let bytes = try Samples.bytes(path)
        return try path.hasSuffix(".metadata") ? TorchTree(pickle: bytes) : TorchTree(pyTorch: bytes)
    }

    @Test func `DeepSpeed's steps, shapes and slices`() throws {
        let model = try tree("deepspeed/zero1_fp32/global_step2/mp_rank_00_model_states.pt").root
        #expect(
            model["global_steps"]?.int == 2 && model["dp_world_size"]?.int == 2 && model["my_step"]?.int == 1)
        #expect(model["optimizer"]?.isNone == true && model["ds_version"]?.string == "0.19.8")
        let group = try #require(model["param_shapes"]?.elements?.first)
        #expect(group["emb.weight"]?.dimensions == [50, 32] && group["l1.bias"]?.dimensions == [64])
        #expect(group.items?.map(\.key.string) == model["module"]?.items?.map(\.key.string))
        // All of them lie in one storage.
        let tensors = try #require(model["module"]?.items).compactMap(\.value.tensor)
        #expect(Set(tensors.map(\.storageKey)) == ["0"] && tensors.count == 6)
        #expect(tensors[1].name == "module.l1.weight" && tensors[1].storageOffset == 1600)

        let file = "deepspeed/zero1_fp32/global_step2/zero_pp_rank_1_mp_rank_00_optim_states.pt"
        let optimizer = try #require(try tree(file).root["optimizer_state_dict"])
        #expect(optimizer["zero_stage"]?.className == "deepspeed.runtime.zero.config.ZeroStageEnum")
        #expect(optimizer["zero_stage"]?.arguments.first?.int == 1)
        #expect(optimizer["loss_scaler"]?.attribute("cur_scale")?.double == 1)
        #expect(optimizer["partition_count"]?.elements?.map(\.int) == [2])
        let flat = try #require(optimizer["single_partition_of_fp32_groups"]?.elements?.first?.tensor)
        #expect(flat.name == "optimizer_state_dict.single_partition_of_fp32_groups.0" && flat.shape == [3520])
        let state = try #require(optimizer["base_optimizer_state"]?["state"]?[0])
        #expect(state["exp_avg"]?.tensor?.shape == [3520])
        let slices = try #require(optimizer["param_slice_mappings"]?.elements?.first?.items)
        #expect(slices.count > 1)
        for (_, address) in slices {
            #expect(address.className == "deepspeed.utils.tensor_fragment.fragment_address")
            #expect(
                address.attribute("numel", position: 0)?.int ?? 0 > 0
                    && address.attribute("start")?.int != nil)
        }
    }

    @Test func `Megatron's iteration and arguments`() throws {
        let root = try tree("megatron/legacy_torch_tp2/iter_0000010/mp_rank_01/model_optim_rng.pt").root
        #expect(root["iteration"]?.int == 10 && root["checkpoint_version"]?.double == 3)
        let arguments = try #require(root["args"])
        #expect(arguments.className == "argparse.Namespace" && arguments.attribute("num_layers")?.int == 1)
        #expect(arguments.attribute("params_dtype")?.dtype == "F32")
        #expect(arguments.attributes.map(\.key.string) == ["num_layers", "params_dtype"])
        let groups = try #require(root["optimizer"]?["optimizer"]?["param_groups"]?.elements)
        #expect(groups.first?["lr"]?.double == 0.001 && groups.first?["step"]?.int == 10)
        #expect(root["rng_state"]?.elements?.first?["random_rng_state"]?.elements?[1].elements?.count == 625)

        let buckets = try tree("megatron/legacy_torch_tp2/iter_0000010/mp_rank_01/distrib_optim.pt").root
        #expect(buckets["buckets_coalesced"]?.bool == true)
        let bucket = try #require(buckets[0]?.items?.first)
        #expect(bucket.key.elements?.map(\.dtype) == ["F32", "F32"])
        #expect(bucket.value["param"]?.tensor?.shape == [1824] && bucket.value["numel_unpadded"]?.int == 1824)

        let common = try tree("megatron/torch_dist/iter_0000010/common.pt").root
        #expect(common["iteration"]?.int == 10)
        #expect(common["args"]?.attribute("tensor_model_parallel_size")?.int == 2)
    }

    @Test func `Lightning's step, epoch and metrics`() throws {
        let file = try Samples.bytes("lightning/run/checkpoints/last.ckpt")
        let root = try TorchTree(pyTorch: file).root
        #expect(root["global_step"]?.int == 16 && root["epoch"]?.int == 3)
        #expect(root["hyper_parameters"]?["h"]?.int == 16)
        #expect(
            root["lr_schedulers"]?.elements?.first?["_last_lr"]?.elements?.first?.double
                == 1.0000000000000002e-06)
        let callback = try #require(
            root["callbacks"]?.items?.first { $0.value["monitor"]?.string == "val_loss" }?.value)
        let score = try #require(callback["best_model_score"]?.tensor)
        #expect(score.shape == [] && score.dtype == "F32")
        let range = try #require(score.range)
        let bits = file[Int(range.lowerBound)..<Int(range.upperBound)].reversed().reduce(0 as UInt32) {
            $0 << 8 | UInt32($1)
        }
        #expect((0.24..<0.26).contains(Float(bitPattern: bits)))
    }

    @Test(arguments: [0, 1])
    func `verl's shards and state of the random numbers`(_ rank: Int) throws {
        let folder = "verl/fsdp/global_step_2/actor"
        let model = try tree("\(folder)/model_world_size_2_rank_\(rank).pt").root
        #expect(model.kind == .dictionary)
        for (key, value) in try #require(model.items) {
            let tensor = try #require(try value.distributedTensor())
            #expect(tensor.local.name == key.string && tensor.placements == [.shard(0)])
            #expect(tensor.mesh.shape == [2] && tensor.mesh.ranks == [0, 1] && tensor.mesh.names == ["fsdp"])
            #expect(tensor.shape.dropFirst() == tensor.local.shape.dropFirst())
            #expect(tensor.shape[0] == 2 * tensor.local.shape[0])
        }
        let optimizer = try tree("\(folder)/optim_world_size_2_rank_\(rank).pt").root
        #expect(try optimizer["state"]?[0]?["exp_avg"]?.distributedTensor()?.shape == [64, 32])
        #expect(
            optimizer["param_groups"]?.elements?.first?["betas"]?.elements?.map(\.double) == [0.9, 0.999])
        let extra = try tree("\(folder)/extra_state_world_size_2_rank_\(rank).pt").root
        #expect(extra["lr_scheduler"]?["_step_count"]?.int == 3)
        #expect(extra["rng"]?["cpu"]?.tensor?.shape == [5056])
        let numpy = try #require(extra["rng"]?["numpy"]?.elements)
        #expect(
            numpy[0].string == "MT19937" && numpy[1].className?.hasSuffix(".multiarray._reconstruct") == true)
        #expect(numpy[1].state?.elements?.last?.bytes?.count == 624 * 4)
    }

    @Test func `the metadata of distributed checkpoints`() throws {
        let root = try tree("dcp/w2/fsdp2_w2/step-2/.metadata").root
        #expect(root.className == "torch.distributed.checkpoint.metadata.Metadata")
        #expect(root.attribute("version")?.string == "1.0.0")
        let weight = try #require(root.attribute("state_dict_metadata")?["model.l1.weight"])
        #expect(weight.attribute("size")?.dimensions == [64, 32])
        let chunks = try #require(weight.attribute("chunks")?.elements)
        #expect(chunks.map { $0.attribute("offsets")?.dimensions } == [[0, 0], [32, 0]])
        #expect(weight.attribute("properties")?.state?.elements?.first?.dtype == "F32")
        #expect(
            root.attribute("planner_data")?["model.l1.weight"]?.elements?.map(\.string) == [
                "model", "l1.weight",
            ])
        let stored = try #require(root.attribute("storage_data")?.items)
        let one = try #require(stored.last { $0.key.attribute("fqn")?.string == "model.l1.weight" })
        #expect(one.key.attribute("offset")?.dimensions == [32, 0])
        let place = try #require(one.value.attribute("relative_path")?.string)
        let (offset, length) = (
            one.value.attribute("offset")?.int ?? -1, one.value.attribute("length")?.int ?? -1
        )
        // The item is a whole file of PyTorch.
        let file = try Samples.bytes("dcp/w2/fsdp2_w2/step-2/\(place)")
        let item = try TorchTree(pyTorch: Array(file[offset..<offset + length]))
        #expect(item.root.tensor?.shape == [32, 32] && item.tensors.first?.path.isEmpty == true)

        let megatron = try tree("megatron/torch_dist/iter_0000010/.metadata").root
        #expect(megatron.attribute("all_local_plans")?.elements?.count == 2)
        #expect(megatron.attribute("planner_data")?.isNone == true)
    }

    @Test(arguments: [0, 1])
    func `a distributed tensor that a framework saved by itself`(_ rank: Int) throws {
        let root = try tree("dcp/w2/fsdp2_dtensor_rank\(rank).pt").root
        let tensors = try #require(root.items).compactMap { try $0.value.distributedTensor() }
        #expect(!tensors.isEmpty)
        for tensor in tensors {
            #expect(tensor.mesh.rank == rank && tensor.mesh.ranks == [0, 1] && tensor.local.name != nil)
        }
    }
}
